"""Two distributions that claim one name are an error when that name is asked for, and only then."""

import pytest
import torch
from fake_distributions import Site, observer
from torch import nn

from mono_quant import Quantizer
from mono_quant._plugins.manager import PluginManager
from mono_quant.errors import PluginConflictError, PluginWarning

BOTH = r"broad \(mono-quant-broad 2\.0\) and wide \(mono-quant-wide 1\.0\)"


@pytest.fixture
def clash(site: Site) -> Site:
    """Two distributions with an observer ``wide``."""
    site.install("mono-quant-wide", observer("wide"))
    site.install("mono-quant-broad", observer("wide"), version="2.0")
    return site


@pytest.mark.usefixtures("clash")
def test_the_error_names_both_distributions_and_the_way_out(model: nn.Module, batches: list[torch.Tensor]):
    with pytest.raises(PluginConflictError, match=rf"observer 'wide' is claimed by {BOTH}") as raised:
        Quantizer(observer="wide").quantize(model, batches)
    assert "MONO_QUANT_BLOCK_PLUGINS=mono-quant-" in str(raised.value)


@pytest.mark.usefixtures("clash")
def test_other_names_can_be_asked_for(model: nn.Module, batches: list[torch.Tensor]):
    assert Quantizer(observer="minmax").quantize(model, batches).info.selected_layers == ("0", "2")


@pytest.mark.usefixtures("clash")
def test_the_way_out_that_the_error_names_is_one(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(PluginConflictError) as raised:
        PluginManager.with_plugins().observers.get("wide")
    blocked = str(raised.value).rpartition("MONO_QUANT_BLOCK_PLUGINS=")[2]
    monkeypatch.setenv("MONO_QUANT_BLOCK_PLUGINS", blocked)
    left = PluginManager.with_plugins().observers.get("wide").provider.distribution
    assert {left, blocked} == {"mono-quant-wide", "mono-quant-broad"}


@pytest.mark.usefixtures("clash")
def test_a_plugin_that_is_passed_wins(model: nn.Module, batches: list[torch.Tensor]):
    quantizer = Quantizer(observer="wide", plugins=["mono_quant_wide"])
    assert quantizer.quantize(model, batches).info.versions["mono-quant-wide"] == "1.0"


@pytest.mark.parametrize("step", [1, -1], ids=["the name first", "the alias first"])
def test_an_alias_clashes_with_a_name_whatever_the_order(site: Site, step: int):
    codes = [observer("wide"), observer("other", aliases=("wide",))]
    for name, code in zip("ab", codes[::step], strict=True):
        site.install(f"mono-quant-{name}", code)
    with pytest.raises(PluginConflictError, match=r"observer 'wide' is claimed by a \(.*\) and b \("):
        PluginManager.with_plugins().observers.get("wide")


def test_an_alias_gives_the_record_of_the_name(site: Site):
    site.install("mono-quant-wide", observer("wide", aliases=("broad", "large")))
    observers = PluginManager.with_plugins().observers
    assert observers.get("large") == observers.get("wide")


def test_an_alias_that_repeats_its_own_name_is_no_clash(site: Site):
    site.install("mono-quant-wide", observer("wide", aliases=("wide",)))
    assert PluginManager.with_plugins().observers.get("wide").spec.name == "wide"


def test_a_third_party_that_claims_the_name_of_a_built_in_takes_nothing_over(site: Site):
    site.install("mono-quant-rogue", observer("minmax"))
    with pytest.raises(PluginConflictError, match=r"minmax \(mono-quant [^ ]+\) and rogue \(mono-quant-rogue 1\.0\)"):
        PluginManager.with_plugins().observers.get("minmax")


def test_one_name_in_two_kinds_is_no_clash(site: Site):
    site.install("mono-quant-sqnr", observer("sqnr"))
    manager = PluginManager.with_plugins()
    assert manager.observers.get("sqnr").provider != manager.validators.get("sqnr").provider


def test_two_distributions_that_bring_one_module_are_told_apart(site: Site):
    module = site.module("a_shared_plugin", observer("wide"))
    for name in ("mono-quant-new", "mono-quant-old"):
        site.install(name, points={"shared": module})
    with pytest.warns(PluginWarning, match=r"shared \(mono-quant-old 1\.0\) is not used: it is the same object as"):
        manager = PluginManager.with_plugins()
    assert manager.observers.get("wide").provider.distribution == "mono-quant-new"
    assert manager.is_registered(next(plugin for name, plugin in manager.list_name_plugin() if "shared" in name))
