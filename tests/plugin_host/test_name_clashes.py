"""Distributions that claim one name: an error when it is asked for; the names of built-ins are not given away."""

import pytest
import torch
from fake_distributions import Site, observer
from torch import nn

from mono_quant import Quantizer, load_model
from mono_quant._plugins import manager as plugin_manager
from mono_quant._plugins.manager import PluginManager
from mono_quant.errors import PluginConflictError, PluginWarning, UnknownPluginError

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


FORMAT = """
from mono_quant import hookimpl
from mono_quant.io.pytorch_format import PytorchFormat
from mono_quant.plugin_api import FormatSpec

@hookimpl
def mono_quant_formats():
    return [FormatSpec(name="tape", summary="", factory=PytorchFormat, suffixes=(".tape", ".pt"))]
"""
KERNEL = """
from mono_quant import hookimpl
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api import KernelSpec

@hookimpl
def mono_quant_kernels():
    return [KernelSpec(name="mine", summary="", factory=ReferenceKernel, aliases=("reference",))]
"""
TAKEN = {
    "a name": (observer("minmax"), "observer 'minmax': the name 'minmax' is also claimed by minmax"),
    "an alias": (observer("wide", aliases=("minmax",)), "observer 'wide': the name 'minmax' is also claimed by minmax"),
    "a suffix": (FORMAT, r"format 'tape': the suffix '\.pt' is also claimed by pytorch"),
    "a kernel": (KERNEL, "kernel 'mine': the name 'reference' is also claimed by reference"),
}
every_taken = pytest.mark.parametrize(("code", "words"), TAKEN.values(), ids=TAKEN)


@every_taken
def test_a_third_party_that_claims_what_a_built_in_has_is_left_out_with_one_warning_that_names_both(
    site: Site, code: str, words: str, model: nn.Module, batches: list[torch.Tensor]
):
    site.install("mono-quant-rogue", code)
    with pytest.warns(
        PluginWarning, match=rf"plugin rogue \(mono-quant-rogue 1\.0\) is not used: {words} \(mono-quant [^ ]+\)"
    ) as caught:
        result = Quantizer(kernel="reference").quantize(model, batches)
    assert len(caught) == 1
    result.save(site.folder / "model.pt")
    assert set(load_model(site.folder / "model.pt")) == set(result.model.state_dict())
    assert set(result.info.versions) == {"mono-quant", "torch"}


@every_taken
def test_a_claim_on_what_a_built_in_has_raises_in_strict_mode(
    site: Site, monkeypatch: pytest.MonkeyPatch, code: str, words: str
):
    site.install("mono-quant-rogue", code)
    monkeypatch.setenv("MONO_QUANT_STRICT_PLUGINS", "1")
    with pytest.raises(PluginConflictError, match=rf"plugin rogue \(mono-quant-rogue 1\.0\): {words}"):
        PluginManager.with_plugins()


@pytest.mark.filterwarnings("ignore::mono_quant.errors.PluginWarning")
def test_nothing_of_a_plugin_that_claims_what_a_built_in_has_is_registered_and_the_error_says_why(site: Site):
    more = '[ObserverSpec(name="wide", summary="", factory=TheObserver), '
    site.install("mono-quant-rogue", observer("minmax").replace("return [", f"return {more}"))
    with pytest.raises(UnknownPluginError, match=r"(?s)no observer is named 'wide'.*plugin rogue .*name 'minmax'"):
        PluginManager.with_plugins().observers.get("wide")


def test_the_ways_out_that_the_warning_names_are_some(
    site: Site, monkeypatch: pytest.MonkeyPatch, model: nn.Module, batches: list[torch.Tensor]
):
    site.install("mono-quant-rogue", observer("minmax"))
    preferred = Quantizer(plugins=["mono_quant_rogue"]).quantize(model, batches)
    assert preferred.info.versions["mono-quant-rogue"] == "1.0"
    with pytest.warns(PluginWarning) as caught:
        Quantizer()
    ways_out = str(caught[0].message)
    assert "prefer it with Quantizer(plugins=[...])" in ways_out
    assert "The plugin's author should choose another name" in ways_out
    monkeypatch.setattr(plugin_manager, "_warned", set())
    monkeypatch.setenv("MONO_QUANT_BLOCK_PLUGINS", ways_out.partition("MONO_QUANT_BLOCK_PLUGINS=")[2].split(",")[0])
    assert Quantizer().quantize(model, batches).info.selected_layers == ("0", "2")


def test_the_name_of_a_built_in_that_is_blocked_is_free(site: Site, monkeypatch: pytest.MonkeyPatch):
    site.install("mono-quant-rogue", observer("minmax"))
    monkeypatch.setenv("MONO_QUANT_BLOCK_PLUGINS", "minmax")
    assert PluginManager.with_plugins().observers.get("minmax").provider.name == "rogue"


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
