"""Loading a file with other plugins than it was made with: a warning, or an error that names what is missing."""

import warnings
from pathlib import Path

import pytest
import torch
from fake_distributions import Site
from torch import nn

from mono_quant import Quantizer
from mono_quant.errors import PluginWarning, UnknownPluginError

SCHEME = """
from mono_quant import hookimpl
from mono_quant.core.schemes import Int8WeightOnly
from mono_quant.plugin_api import SchemeSpec

class Mine(Int8WeightOnly):
    name = "mine"

@hookimpl
def mono_quant_schemes():
    return [SchemeSpec(name="mine", summary="", factory=Mine)]
"""
OBSERVER = """
from mono_quant import hookimpl
from mono_quant.core.observers import MinMaxObserver
from mono_quant.plugin_api import ObserverSpec

@hookimpl
def mono_quant_observers():
    return [ObserverSpec(name="seen", summary="", factory=MinMaxObserver)]
"""


@pytest.fixture
def saved(site: Site, model: nn.Module, tmp_path: Path) -> Path:
    """Made by version 1.0 of a scheme that is not ours."""
    site.install("mono-quant-mine", SCHEME)
    Quantizer("mine").quantize(model).save(tmp_path / "saved.safetensors")
    return tmp_path / "saved.safetensors"


def test_with_the_same_distribution_it_loads_without_a_word(saved: Path, model: nn.Module):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Quantizer().load(saved, model)


def test_with_another_version_it_loads_and_warns(site: Site, saved: Path, model: nn.Module):
    site.uninstall("mono-quant-mine")
    site.install("mono-quant-mine", SCHEME, version="2.0")
    words = r"'mine' comes from mine \(mono-quant-mine 2\.0\); the file was made with version 1\.0 of it"
    with pytest.warns(PluginWarning, match=words):
        loaded = Quantizer().load(saved, model)
    assert loaded(torch.zeros(1, 6)).shape == (1, 3)


def test_from_another_distribution_it_loads_and_warns(site: Site, saved: Path, model: nn.Module):
    site.uninstall("mono-quant-mine")
    site.install("mono-quant-theirs", SCHEME)
    words = r"'mine' comes from theirs \(mono-quant-theirs 1\.0\), which the file was not made with"
    with pytest.warns(PluginWarning, match=words):
        Quantizer().load(saved, model)


def test_without_it_the_error_names_the_distribution(site: Site, saved: Path, model: nn.Module):
    site.uninstall("mono-quant-mine")
    words = r"(?s)no scheme is named 'mine'.*not installed, and the file was made with: mono-quant-mine 1\.0"
    with pytest.raises(UnknownPluginError, match=words):
        Quantizer().load(saved, model)


def test_one_that_is_passed_in_is_taken_at_its_word(site: Site, saved: Path, model: nn.Module):
    site.uninstall("mono-quant-mine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Quantizer(plugins=[site.module("passed_in", SCHEME)]).load(saved, model)


def test_what_only_calibrated_it_is_not_needed(
    site: Site, model: nn.Module, batches: list[torch.Tensor], tmp_path: Path
):
    site.install("mono-quant-seen", OBSERVER)
    Quantizer(observer="seen").quantize(model, batches).save(tmp_path / "saved.safetensors")
    site.uninstall("mono-quant-seen")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Quantizer().load(tmp_path / "saved.safetensors", model)
