"""What a format cannot hold is known before any work, and the user chooses what becomes of it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from mono_quant import QuantizationConfig, Quantizer
from mono_quant.errors import ConfigurationError, UnknownPluginError
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api import FormatSpec, LayerPlan, hookimpl


class Picky(SafetensorsFormat):
    """Holds no convolutions, and no quantized inputs in layers of the same parent, unless all have them."""

    def refusals(self, layers: Mapping[str, LayerPlan]) -> Mapping[str, str]:
        refused = {name: "convolutions have no place in it" for name, one in layers.items() if "Conv" in one.layer_type}
        pair = [layers.get("pair.0"), layers.get("pair.1")]
        if any(pair) and not all(pair):
            refused |= {name: "it stands alone" for name in ("pair.0", "pair.1") if name in layers}
        return refused


class Plugin:
    @hookimpl
    def mono_quant_formats(self) -> list[FormatSpec]:
        return [FormatSpec(name="picky", summary="as a test says", factory=Picky, suffixes=(".picky",))]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.pair = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).mean((2, 3))
        return self.head(self.pair[0](x) + self.pair[1](x))


DATA = [torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def quantizer(**options: object) -> Quantizer:
    return Quantizer(format="picky", plugins=[Plugin()], show_progress=False, on_failure="ignore", **options)


class Untouched:
    """Data that must not be asked for."""

    def __iter__(self) -> None:
        raise AssertionError("data was read")


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
    monkeypatch.setattr(Picky, "refusals", lambda _, layers: {n: "inputs" for n, p in layers.items() if p.input})
    result = quantizer(on_refusal={"name": "int8-weight-only"}, observer="percentile").quantize(Model(), DATA)
    assert {plan.scheme for plan in result.plan.layers.values()} == {"int8-weight-only"}
    assert len(result.plan.layers) == 4


def test_other_options_of_these_layers_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Picky, "refusals", lambda _, layers: {n: "bits" for n, p in layers.items() if not p.needs_data})
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
    monkeypatch.setattr(Picky, "refusals", lambda _, layers: {n: "so" for n in layers if n == "conv"})
    checkpoint = quantizer(scheme="int8-weight-only", on_refusal="keep").quantize_checkpoint(state)
    assert checkpoint.plan.kept["conv"] == "picky cannot hold it: so"
    checkpoint.save(tmp_path / "model")
    assert (tmp_path / "model").exists()
    with pytest.raises(ConfigurationError, match="conv: so"):
        quantizer(scheme="int8-weight-only").quantize_checkpoint(state)
