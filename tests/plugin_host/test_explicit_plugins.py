"""``Quantizer(plugins=[...])``: modules, instances and import paths, for this quantizer alone."""

import importlib
import logging

import pytest
import torch
from fake_distributions import BROKEN, Site, observer
from torch import nn

from mono_quant import Quantizer, hookimpl
from mono_quant._plugins.manager import PluginManager
from mono_quant.core.observers import MinMaxObserver
from mono_quant.errors import PluginError
from mono_quant.plugin_api import ObserverSpec


class Doubling(MinMaxObserver):
    """Sees everything twice as large."""

    def observe(self, view: torch.Tensor) -> None:
        super().observe(2 * view)


class Plugin:
    """Provides the observer above under a name of choice."""

    def __init__(self, name: str) -> None:
        self.name = name

    @hookimpl
    def mono_quant_observers(self) -> list[ObserverSpec]:
        return [ObserverSpec(name=self.name, summary="a test's observer", factory=Doubling)]


def first_scale(quantizer: Quantizer, model: nn.Module, batches: list[torch.Tensor]) -> float:
    return float(quantizer.quantize(model, batches).model.get_submodule("0").input_scale)


def test_a_path_is_imported_and_used(site: Site, model: nn.Module, batches: list[torch.Tensor]):
    module = site.module("my_plugin", observer("wide"))
    assert Quantizer(observer="wide", plugins=[module]).quantize(model, batches).info.selected_layers == ("0", "2")


def test_a_module_is_used(site: Site, model: nn.Module, batches: list[torch.Tensor]):
    module = importlib.import_module(site.module("my_plugin", observer("wide")))
    assert Quantizer(observer="wide", plugins=[module]).quantize(model, batches).info.selected_layers == ("0", "2")


def test_an_instance_is_used(model: nn.Module, batches: list[torch.Tensor]):
    plain = first_scale(Quantizer(), model, batches)
    doubled = first_scale(Quantizer(observer="double", plugins=[Plugin("double")]), model, batches)
    assert doubled == pytest.approx(2 * plain, rel=2**-23)


def test_a_path_inside_a_package_is_imported(site: Site):
    package = site.folder / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(observer("wide"))
    assert "wide" in Quantizer(plugins=["my_package.plugin"]).components.manager.observers.names()


def test_what_one_quantizer_was_given_another_does_not_have():
    given = Quantizer(plugins=[Plugin("double")]).components.manager.observers.names()
    other = Quantizer().components.manager.observers.names()
    assert ("double" in given, "double" in other) == (True, False)


def test_a_plugin_that_is_passed_shadows_a_built_in(model: nn.Module, batches: list[torch.Tensor]):
    plain = first_scale(Quantizer(), model, batches)
    shadowed = first_scale(Quantizer(plugins=[Plugin("minmax")]), model, batches)
    assert shadowed == pytest.approx(2 * plain, rel=2**-23)


def test_shadowing_is_logged(caplog: pytest.LogCaptureFixture):
    manager = PluginManager.with_plugins([Plugin("minmax")])
    with caplog.at_level(logging.INFO, logger="mono_quant.plugins"):
        manager.observers.get("minmax")
    assert [record.getMessage() for record in caplog.records] == [
        "observer 'minmax': Plugin (passed to Quantizer) shadows 1 other(s)"
    ]


def test_a_name_that_shadows_nothing_is_not_logged(caplog: pytest.LogCaptureFixture):
    manager = PluginManager.with_plugins([Plugin("double")])
    with caplog.at_level(logging.DEBUG, logger="mono_quant.plugins"):
        manager.observers.get("double")
        manager.observers.get("minmax")
    assert caplog.records == []


def test_of_two_that_are_passed_the_last_wins():
    first, last = Plugin("double"), Plugin("double")
    manager = PluginManager.with_plugins([first, last])
    assert manager.observers.get("double") == list(manager.observers)[-1]


def test_one_that_is_passed_twice_counts_once():
    plugin = Plugin("double")
    manager = PluginManager.with_plugins([plugin, plugin])
    assert [record.spec.name for record in manager.observers].count("double") == 1


def test_an_installed_plugin_that_is_passed_as_well_counts_once_and_keeps_its_version(site: Site):
    module = site.install("mono-quant-wide", observer("wide"), version="3.2")
    manager = PluginManager.with_plugins([module])
    assert [record.spec.name for record in manager.observers].count("wide") == 1
    assert manager.observers.get("wide").provider.version == "3.2"


@pytest.mark.parametrize("last", ["minmax", "rogue"])
def test_of_a_built_in_and_an_installed_plugin_of_one_name_that_are_passed_the_last_wins(site: Site, last: str):
    site.install("mono-quant-rogue", observer("minmax"))
    modules = {"minmax": "mono_quant.builtin.minmax", "rogue": "mono_quant_rogue"}
    manager = PluginManager.with_plugins([*(m for name, m in modules.items() if name != last), modules[last]])
    assert manager.observers.get("minmax").provider.name == last


def test_a_path_that_does_not_exist_is_an_error_that_names_it():
    with pytest.raises(PluginError, match=r"plugin 'no\.such\.plugin' cannot be imported: ModuleNotFoundError"):
        Quantizer(plugins=["no.such.plugin"])


def test_a_path_whose_import_fails_is_an_error_that_says_why(site: Site):
    module = site.module("my_plugin", BROKEN)
    with pytest.raises(PluginError, match=r"plugin 'my_plugin' cannot be imported: .*a_module_that_nobody_has"):
        Quantizer(plugins=[module])
