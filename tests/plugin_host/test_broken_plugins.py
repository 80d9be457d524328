"""A broken third-party plugin is named, once and wherever it could matter, and stops nothing else."""

import sys
import traceback
import warnings

import pytest
import torch
from fake_distributions import BROKEN, Site, observer
from torch import nn

from mono_quant import Quantizer, load_model, save_model
from mono_quant._plugins.discovery import refresh
from mono_quant._plugins.manager import PluginManager
from mono_quant.errors import (
    ArtifactError,
    CalibrationError,
    ConfigurationError,
    MonoQuantError,
    PluginError,
    PluginWarning,
    UnknownPluginError,
)

IMPORTS = {
    "a missing dependency": (BROKEN, "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
    "a syntax error": ("def broken(:", "SyntaxError: "),
    "an error of its own": ("raise ZeroDivisionError('on purpose')", "ZeroDivisionError: on purpose"),
    "an exit": ("raise SystemExit('on purpose')", "SystemExit: on purpose"),
}
NAMED = r"plugin bad \(mono-quant-bad 1\.0\) could not be used: importing 'mono_quant_bad' raised ModuleNotFoundError"


@pytest.fixture
def broken(site: Site) -> Site:
    """Beside what works, a distribution that does not; the warning of it was given."""
    site.install("mono-quant-bad", BROKEN)
    with pytest.warns(PluginWarning):
        PluginManager.with_plugins()
    return site


@pytest.mark.parametrize(("code", "message"), IMPORTS.values(), ids=IMPORTS)
def test_a_plugin_that_cannot_be_imported_is_recorded_with_the_reason(site: Site, code: str, message: str):
    site.install("mono-quant-bad", code)
    with pytest.warns(PluginWarning, match="importing 'mono_quant_bad' raised"):
        manager = PluginManager.with_plugins()
    assert [message in p.error for p in manager.providers if p.status == "broken"] == [True]


def test_an_entry_point_that_names_nothing_in_its_module_is_recorded(site: Site):
    site.install("mono-quant-bad", observer("wide"), points={"bad": "mono_quant_bad:nothing"})
    with pytest.warns(PluginWarning, match="importing 'mono_quant_bad:nothing' raised AttributeError"):
        PluginManager.with_plugins()


def test_an_interrupt_during_the_import_of_a_plugin_is_not_swallowed(site: Site):
    site.install("mono-quant-bad", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        PluginManager.with_plugins()


@pytest.mark.usefixtures("broken")
def test_a_broken_plugin_is_warned_of_once_in_a_process():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Quantizer()
        refresh()
        Quantizer()


def test_each_broken_plugin_is_warned_of(site: Site):
    for name in ("bad", "worse"):
        site.install(f"mono-quant-{name}", BROKEN)
    with pytest.warns(PluginWarning) as caught:
        Quantizer()
    assert [str(warning.message).split()[1] for warning in caught] == ["bad", "worse"]


def test_the_warning_points_at_the_line_of_the_user(site: Site):
    site.install("mono-quant-bad", BROKEN)
    with pytest.warns(PluginWarning) as caught:
        Quantizer()
    line = sys._getframe().f_lineno - 1
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]


def test_a_broken_plugin_does_not_stop_the_good_one_beside_it(broken: Site):
    broken.install("mono-quant-wide", observer("wide"))
    assert "wide" in PluginManager.with_plugins().observers.names()


def test_a_model_is_quantized_saved_and_loaded_beside_a_broken_plugin(
    broken: Site, model: nn.Module, batches: list[torch.Tensor]
):
    result = Quantizer().quantize(model, batches)
    path = broken.folder / "model.safetensors"
    save_model(result.model, path)
    assert result.info.selected_layers == ("0", "2")
    assert set(load_model(path)) == set(result.model.state_dict())


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    "kind", ["observer", "source", "scheme", "format", "validator", "kernel", "algorithm", "runtime"]
)
def test_the_error_about_an_unknown_name_names_the_broken_plugin(kind: str):
    registries = {registry.kind: registry for registry in PluginManager.with_plugins().registries.values()}
    with pytest.raises(UnknownPluginError, match=rf"(?s)no {kind} is named 'nothing'; there are: .*{NAMED}"):
        registries[kind].get("nothing")


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    "option",
    [
        {"scheme": "nothing"},
        {"observer": "nothing"},
        {"source": "nothing"},
        {"validators": ["nothing"]},
        {"algorithms": ["nothing"]},
        {"kernel": "nothing"},
        {"runtime": "nothing"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_a_run_that_asks_for_an_unknown_name_names_the_broken_plugin(
    option: dict[str, object], model: nn.Module, batches: list[torch.Tensor]
):
    with pytest.raises(UnknownPluginError, match=NAMED):
        Quantizer(**option).quantize(model, batches)


def test_the_error_about_an_unknown_suffix_names_the_broken_plugin(broken: Site, model: nn.Module):
    with pytest.raises(ArtifactError, match=rf"(?s)no format has the suffix '\.tape'; there are .*{NAMED}"):
        save_model(model, broken.folder / "model.tape")


@pytest.mark.usefixtures("broken")
def test_the_error_about_data_that_no_source_reads_names_the_broken_plugin(model: nn.Module):
    with pytest.raises(CalibrationError, match=rf"(?s)no source reads calibration data of type int.*{NAMED}"):
        Quantizer().quantize(model, 42)


def test_strict_mode_raises_on_a_broken_plugin(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MONO_QUANT_STRICT_PLUGINS", "1")
    site.install("mono-quant-bad", BROKEN)
    with pytest.raises(PluginError, match=r"plugin bad \(mono-quant-bad 1\.0\): importing 'mono_quant_bad' raised"):
        Quantizer()


def test_strict_mode_raises_on_a_plugin_that_breaks_the_contract(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MONO_QUANT_STRICT_PLUGINS", "1")
    site.install("mono-quant-bad", "answer = 42")
    with pytest.raises(PluginError, match=r"plugin bad \(mono-quant-bad 1\.0\): it has no hook"):
        Quantizer()


def lines_of(error: BaseException | None, module: str) -> list[int]:
    """The lines of a module in the tracebacks of an error and of what it comes from."""
    own = traceback.extract_tb(error.__traceback__) if error else ()
    return [frame.lineno or 0 for frame in own if frame.filename.endswith(f"{module}.py")] + (
        lines_of(error.__cause__, module) if error else []
    )


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("x = 1\n\nraise ZeroDivisionError('on purpose')\n", 3),
        (observer("wide").replace("return [", "1 / 0; return ["), 12),
    ],
    ids=["an import", "a hook"],
)
def test_the_error_in_strict_mode_has_the_traceback_of_the_plugin_each_time(
    site: Site, monkeypatch: pytest.MonkeyPatch, code: str, line: int
):
    monkeypatch.setenv("MONO_QUANT_STRICT_PLUGINS", "1")
    site.install("mono-quant-bad", code)
    for _ in range(2):
        with pytest.raises(PluginError, match="ZeroDivisionError") as raised:
            Quantizer()
        assert lines_of(raised.value, "mono_quant_bad") == [line]


def test_strict_mode_accepts_plugins_that_work(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MONO_QUANT_STRICT_PLUGINS", "1")
    site.install("mono-quant-wide", observer("wide"))
    assert "wide" in PluginManager.with_plugins().observers.names()


@pytest.mark.usefixtures("broken")
def test_strict_mode_is_off_when_its_variable_is_0(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MONO_QUANT_STRICT_PLUGINS", "0")
    assert "minmax" in PluginManager.with_plugins().observers.names()


def test_plugin_errors_are_in_the_one_tree_of_errors():
    assert issubclass(PluginError, MonoQuantError)
    assert issubclass(UnknownPluginError, PluginError)
    assert issubclass(UnknownPluginError, LookupError)
    assert issubclass(ConfigurationError, ValueError)
