"""What a format cannot hold is known before any work, and the user chooses what becomes of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from picky import DATA, Model, Picky, Scaled, Untouched, quantizer

from mono_quant import QuantizationConfig, Quantizer
from mono_quant.errors import ConfigurationError, PluginError, UnknownPluginError


def test_it_is_an_error_before_the_data_is_read():
    with pytest.raises(ConfigurationError, match=r"format 'picky' cannot hold 1 of 4 layers.*\n  conv: convolutions"):
        quantizer().quantize(Model(), Untouched())


def test_a_plan_says_it_too():
    with pytest.raises(ConfigurationError, match="on_refusal='keep'"):
        quantizer().plan(Model())


def test_they_are_kept_in_float_with_the_reason():
    result = quantizer(on_refusal="keep").quantize(Model(), DATA)
    assert result.info.skipped_layers["conv"] == "picky cannot hold it: convolutions have no place in it"
    assert set(result.info.selected_layers) == {"pair.0", "pair.1", "head"}


def test_what_is_refused_since_others_are_kept_is_kept_too():
    result = quantizer(on_refusal="keep", exclude=["pair.0"]).quantize(Model(), DATA)
    assert set(result.info.selected_layers) == {"head"}
    assert result.info.skipped_layers["pair.1"] == "picky cannot hold it: it stands alone"


def test_they_are_quantized_by_another_scheme(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Picky, "refusals", lambda _, layers, _kept: {n: "inputs" for n, p in layers.items() if p.input})
    result = quantizer(on_refusal={"name": "int8-weight-only"}, observer="percentile").quantize(Model(), DATA)
    assert {plan.scheme for plan in result.plan.layers.values()} == {"int8-weight-only"}
    assert len(result.plan.layers) == 4


def test_other_options_of_these_layers_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        Picky, "refusals", lambda _, layers, _kept: {n: "bits" for n, p in layers.items() if not p.needs_data}
    )
    overrides = {"head": {"observer": "absmax"}, "pair.*": {"scheme": "int8-weight-only"}}
    result = quantizer(on_refusal="int8-static", overrides=overrides).quantize(Model(), DATA)
    assert {name: plan.scheme for name, plan in result.plan.layers.items()} == dict.fromkeys(
        ["conv", "pair.0", "pair.1", "head"], "int8-static"
    )
    assert type(result.observed["head"][0]).__name__ == "AbsMaxObserver"


def test_another_scheme_that_is_refused_too_is_an_error():
    with pytest.raises(ConfigurationError, match="conv: convolutions"):
        quantizer(on_refusal="int8-weight-only").quantize(Model(), Untouched())


def test_unknown_names_are_refused():
    with pytest.raises(UnknownPluginError, match="no format is named 'pick'"):
        Quantizer(format="pick").plan(Model())
    with pytest.raises(UnknownPluginError, match="no scheme is named 'drop'"):
        quantizer(on_refusal="drop").plan(Model())


def test_a_recipe_says_both():
    config = QuantizationConfig.from_text('format = "picky"\non_refusal = "keep"', "toml")
    assert QuantizationConfig.from_text(config.to_text("toml"), "toml") == config
    assert (config.format.name, config.on_refusal.name) == ("picky", "keep")


def test_the_file_of_a_kept_layer_loads(tmp_path: Path):
    made = quantizer(on_refusal="keep")
    result = made.quantize(Model(), DATA)
    result.save(tmp_path / "model.picky")
    loaded = made.load(tmp_path / "model.picky", Model)
    assert torch.equal(loaded(DATA[0]), result.model(DATA[0]))


def test_it_is_saved_in_the_format_that_was_agreed_on(tmp_path: Path):
    result = quantizer(on_refusal="keep").quantize(Model(), DATA)
    result.save(tmp_path / "model")  # no suffix chooses another
    assert {"conv.weight", "head.weight"} <= Picky().load(tmp_path / "model").tensors.keys()
    result.save(tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes()[:2] == b"PK"


def test_a_checkpoint_agrees_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    state = Model().state_dict()
    monkeypatch.setattr(Picky, "refusals", lambda _, layers, _kept: {n: "so" for n in layers if n == "conv"})
    checkpoint = quantizer(scheme="int8-weight-only", on_refusal="keep").quantize_checkpoint(state)
    assert checkpoint.plan.kept["conv"] == "picky cannot hold it: so"
    checkpoint.save(tmp_path / "model")
    assert (tmp_path / "model").exists()
    with pytest.raises(ConfigurationError, match="conv: so"):
        quantizer(scheme="int8-weight-only").quantize_checkpoint(state)


class TestTies:
    """One tensor of two names, of which the format refuses one."""

    @pytest.mark.parametrize("refused", ["one", "other"])
    def test_both_layers_of_a_checkpoint_stay_in_float(
        self, refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(Picky, "refusals", lambda _, layers, _kept: {n: "so" for n in layers if n == refused})
        model = Scaled()
        model.other.weight = model.one.weight
        made = quantizer(scheme="int8-weight-only", on_refusal="keep")
        checkpoint = made.quantize_checkpoint(model.state_dict())
        assert set(checkpoint.plan.layers) == {"head"}
        kept = {"one": "other", "other": "one"}[refused]
        assert (
            checkpoint.plan.kept[kept] == f"'{kept}.weight' is one tensor with '{refused}.weight', which stays in float"
        )
        checkpoint.save(tmp_path / "model.picky")
        loaded = made.load(tmp_path / "model.picky", Scaled)
        assert torch.equal(loaded.one.weight, model.one.weight)


@pytest.mark.parametrize("failing", [lambda _, _layers: {}, lambda *_: 1 / 0, lambda *_: None])
def test_a_format_that_cannot_say_it_is_named(failing: Callable[..., object], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Picky, "refusals", failing)
    with pytest.raises(PluginError, match=r"format Picky: refusals\(layers, kept\) raised"):
        quantizer().plan(Model())


def test_a_format_is_told_what_stays_in_float(monkeypatch: pytest.MonkeyPatch):
    told = []
    monkeypatch.setattr(Picky, "refusals", lambda _, layers, kept: told.append((set(layers), set(kept))) or {})
    quantizer(exclude="head").plan(Model())
    quantizer(scheme="int8-weight-only", exclude="head").quantize_checkpoint(Model().state_dict())
    assert [layers for layers, _ in told] == [{"conv", "pair.0", "pair.1"}] * 2
    assert all("head" in kept and not kept & layers for layers, kept in told)
