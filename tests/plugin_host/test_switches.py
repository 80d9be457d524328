"""What the environment and ``autoload=False`` keep out."""

import logging
import re
import sys

import pytest
import torch
from fake_distributions import BROKEN, Site, observer
from torch import nn

from mono_quant import Quantizer
from mono_quant._plugins.manager import PluginManager
from mono_quant.errors import PluginWarning, UnknownPluginError

DISABLE, BLOCK = "MONO_QUANT_DISABLE_AUTOLOAD", "MONO_QUANT_BLOCK_PLUGINS"
ALLOW, TRACE = "MONO_QUANT_ALLOW_PLUGINS", "MONO_QUANT_TRACE_PLUGINS"


@pytest.fixture(autouse=True)
def wide(site: Site) -> Site:
    """One third-party plugin."""
    site.install("mono-quant-wide", observer("wide"))
    return site


def status(manager: PluginManager) -> dict[str, str]:
    return {provider.name: provider.status for provider in manager.providers}


def test_autoload_is_on_unless_something_is_said():
    assert status(PluginManager.with_plugins())["wide"] == "active"


def test_autoload_false_keeps_third_parties_out_and_says_so():
    manager = PluginManager.with_plugins(autoload=False)
    assert status(manager)["wide"] == "blocked"
    assert "wide" not in manager.observers.names()
    assert "minmax" in manager.observers.names()


def test_a_quantizer_without_autoload_has_the_built_ins(model: nn.Module, batches: list[torch.Tensor]):
    assert Quantizer(autoload=False).quantize(model, batches).info.selected_layers == ("0", "2")


def test_a_quantizer_without_autoload_does_not_know_a_third_party_and_says_why(
    model: nn.Module, batches: list[torch.Tensor]
):
    why = r"(?s)no observer is named 'wide'; there are: .*minmax.*blocked, because autoload is off: wide \(mono-quant-w"
    with pytest.raises(UnknownPluginError, match=why):
        Quantizer(observer="wide", autoload=False).quantize(model, batches)


@pytest.mark.parametrize("value", ["1", "yes"])
def test_the_environment_can_turn_autoload_off(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv(DISABLE, value)
    manager = PluginManager.with_plugins()
    assert (status(manager)["wide"], status(manager)["minmax"]) == ("blocked", "active")


@pytest.mark.parametrize("value", ["", "0"])
def test_autoload_stays_on_when_its_variable_is_empty_or_0(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv(DISABLE, value)
    assert status(PluginManager.with_plugins())["wide"] == "active"


def test_a_plugin_that_is_kept_out_is_not_imported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(DISABLE, "1")
    PluginManager.with_plugins()
    assert "mono_quant_wide" not in sys.modules


def test_a_plugin_that_is_blocked_by_name_is_not_imported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(BLOCK, "wide")
    PluginManager.with_plugins()
    assert "mono_quant_wide" not in sys.modules


@pytest.mark.parametrize("autoload", [True, False])
def test_a_broken_plugin_that_is_kept_out_is_not_warned_of(
    wide: Site, monkeypatch: pytest.MonkeyPatch, *, autoload: bool
):
    wide.install("mono-quant-bad", BROKEN)
    monkeypatch.setenv(BLOCK, "bad")
    assert status(PluginManager.with_plugins(autoload=autoload))["bad"] == "blocked"


@pytest.mark.parametrize(
    "value", ["wide", "mono-quant-wide", "mono_quant_wide", "Mono.Quant_Wide", "nothing, wide ,", "mono-quant-wide,x"]
)
def test_a_plugin_is_blocked_by_the_name_of_its_entry_point_or_distribution(
    monkeypatch: pytest.MonkeyPatch, value: str
):
    monkeypatch.setenv(BLOCK, value)
    assert status(PluginManager.with_plugins())["wide"] == "blocked"


@pytest.mark.parametrize("value", ["", ",", " ", "wid", "wide2", "quant", "mono"])
def test_other_names_block_nothing(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv(BLOCK, value)
    assert set(status(PluginManager.with_plugins()).values()) == {"active"}


def test_blocking_an_entry_point_leaves_the_others_of_its_distribution(wide: Site, monkeypatch: pytest.MonkeyPatch):
    other = wide.module("the_other_plugin", observer("narrow"))
    wide.install("mono-quant-two", observer("broad"), points={"one": "mono_quant_two", "two": other})
    monkeypatch.setenv(BLOCK, "two")
    observers = PluginManager.with_plugins().observers.names()
    assert ("broad" in observers, "narrow" in observers) == (True, False)


def test_a_built_in_can_be_blocked_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(BLOCK, "minmax")
    with pytest.raises(UnknownPluginError, match=r"(?s)named 'minmax'.*MONO_QUANT_BLOCK_PLUGINS: minmax \(mono-quant "):
        PluginManager.with_plugins().observers.get("minmax")


def test_a_switch_holds_from_the_next_quantizer_on(monkeypatch: pytest.MonkeyPatch):
    before = status(PluginManager.with_plugins())["wide"]
    monkeypatch.setenv(BLOCK, "wide")
    during = status(PluginManager.with_plugins())["wide"]
    monkeypatch.delenv(BLOCK)
    after = status(PluginManager.with_plugins())["wide"]
    assert (before, during, after) == ("active", "blocked", "active")


def test_a_plugin_that_is_passed_is_used_though_it_is_blocked(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, batches: list[torch.Tensor]
):
    monkeypatch.setenv(BLOCK, "wide")
    quantizer = Quantizer(observer="wide", plugins=["mono_quant_wide"], autoload=False)
    assert quantizer.quantize(model, batches).info.selected_layers == ("0", "2")


@pytest.mark.parametrize("named", ["wide", "mono-quant-wide", "Mono_Quant.Wide", "other, wide"])
def test_an_allow_list_lets_in_those_that_it_names(monkeypatch: pytest.MonkeyPatch, named: str):
    monkeypatch.setenv(ALLOW, named)
    assert status(PluginManager.with_plugins())["wide"] == "active"


def test_an_allow_list_keeps_others_out_unimported_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(ALLOW, "another")
    manager = PluginManager.with_plugins()
    assert (status(manager)["wide"], status(manager)["minmax"]) == ("blocked", "active")
    assert "mono_quant_wide" not in sys.modules
    with pytest.raises(UnknownPluginError, match=r"blocked, because not named in MONO_QUANT_ALLOW_PLUGINS: wide"):
        manager.observers.get("wide")


def test_what_is_blocked_stays_out_though_it_is_allowed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(ALLOW, "wide")
    monkeypatch.setenv(BLOCK, "wide")
    assert status(PluginManager.with_plugins())["wide"] == "blocked"


def test_an_empty_allow_list_lets_all_in(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(ALLOW, " , ")
    assert status(PluginManager.with_plugins())["wide"] == "active"


def test_a_trace_tells_each_step(wide: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    wide.install("mono-quant-broken", BROKEN)
    wide.install("mono-quant-misspelt", observer("misspelt").replace("mono_quant_observers", "mono_quant_observer"))
    wide.install("mono-quant-taken", observer("minmax"))
    wide.install("mono-quant-blocked", observer("blocked"))
    monkeypatch.setenv(TRACE, "1")
    monkeypatch.setenv(BLOCK, "blocked")
    logger = logging.getLogger("mono_quant.plugins")
    before = (logger.level, logger.propagate, [*logger.handlers])
    try:
        with pytest.warns(PluginWarning):
            PluginManager.with_plugins()
        told = capfd.readouterr().err
    finally:
        logger.level, logger.propagate, logger.handlers = before
    prefix = r"(?m)^mono_quant\.plugins: "
    for line in (
        r"wide \(mono-quant-wide 1\.0\): imported mono_quant_wide in [0-9.]+ ms$",
        r"wide \(mono-quant-wide 1\.0\) is registered: \{'observer': \['wide'\]\}$",
        r"blocked \(mono-quant-blocked 1\.0\) is blocked: named in MONO_QUANT_BLOCK_PLUGINS$",
        r"broken \(mono-quant-broken 1\.0\) is broken: importing 'mono_quant_broken' raised ModuleNotFoundError",
        r"misspelt \(mono-quant-misspelt 1\.0\) is broken: mono_quant_observer is not a hook",
        r"taken \(mono-quant-taken 1\.0\) is broken: observer 'minmax': the name 'minmax' is also claimed by",
    ):
        assert re.search(prefix + line, told), line


def test_without_the_switch_nothing_is_told(capfd: pytest.CaptureFixture[str]):
    PluginManager.with_plugins()
    assert capfd.readouterr().err == ""
