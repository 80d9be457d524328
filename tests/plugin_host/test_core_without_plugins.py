"""A core with no plugins is legal: it can be made and asked, and says how to repair what it lacks."""

import pytest
import torch
from fake_distributions import Site, observer
from torch import nn

from mono_quant import Quantizer, save_model
from mono_quant._plugins.manager import PluginManager
from mono_quant.errors import ArtifactError, UnknownPluginError

REPAIR = r"registered at all: reinstall mono-quant.*blocked, because named in MONO_QUANT_BLOCK_PLUGINS: .*minmax \("


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of mono-quant itself is registered."""
    monkeypatch.setenv("MONO_QUANT_BLOCK_PLUGINS", "mono-quant")


def test_a_manager_without_plugins_has_no_component():
    manager = PluginManager.with_plugins()
    assert [registry.names() for registry in manager.registries.values()] == [[]] * 8


def test_a_quantizer_can_be_made():
    assert Quantizer().components.manager.observers.names() == []


def test_an_unknown_name_says_that_there_is_nothing_and_how_to_repair_it(model: nn.Module):
    with pytest.raises(UnknownPluginError, match=rf"(?s)no scheme is named 'int8-static'; no scheme is {REPAIR}"):
        Quantizer().plan(model)


def test_an_unknown_suffix_says_that_there_is_none_and_why(site: Site, model: nn.Module):
    with pytest.raises(ArtifactError, match=r"(?s)no format has the suffix '\.pt'; there are none.*blocked, because"):
        save_model(model, site.folder / "model.pt")


def test_third_parties_alone_are_used(site: Site):
    site.install("mono-quant-wide", observer("wide"))
    assert PluginManager.with_plugins().observers.names() == ["wide"]


def test_the_built_ins_can_be_passed_by_hand(model: nn.Module, batches: list[torch.Tensor]):
    by_hand = [f"mono_quant.builtin.{name}" for name in ("minmax", "dataloader", "int8_static", "reference")]
    result = Quantizer(plugins=by_hand, validators=(), algorithms=()).quantize(model, batches)
    assert result.info.selected_layers == ("0", "2")


def test_the_message_without_any_entry_point_names_the_repair(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MONO_QUANT_BLOCK_PLUGINS")
    site.install("mono-quant", points={"other": "somewhere"}, version="99.0")
    points = site.folder / "mono_quant-99.0.dist-info" / "entry_points.txt"
    points.write_text("")
    with pytest.raises(UnknownPluginError, match="no observer is registered at all: reinstall mono-quant"):
        PluginManager.with_plugins().observers.get("minmax")
