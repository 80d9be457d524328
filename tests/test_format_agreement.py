"""What a format cannot hold is known before any work, and the user chooses what becomes of it."""

from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from mono_quant import MinSQNR, QuantizationConfig, Quantizer
from mono_quant.errors import ConfigurationError, UnknownPluginError
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api import FormatSpec, LayerPlan, hookimpl


class Picky(SafetensorsFormat):
    """Holds no convolutions, and no quantized inputs in layers of the same parent, unless all have them."""

    def refusals(self, layers: Mapping[str, LayerPlan], kept: Collection[str] = ()) -> Mapping[str, str]:
        del kept
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


class Scaled(nn.Module):
    """Two layers that read one tensor with an outlier, which a function makes: a factor of their own helps them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.register_buffer("sizes", torch.tensor([300.0, *[1.0] * 7]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(x) * self.sizes
        return self.head(torch.tanh(self.one(x) + self.other(x)))


ROWS = [torch.randn(64, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]


class TestWhatAlgorithmsHaveRewritten:
    @pytest.fixture(autouse=True)
    def no_factors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            Picky,
            "refusals",
            lambda _, layers, _kept: {n: "factors" for n in layers if layers[n].layer_type == "SmoothedLinear"},
        )

    def test_it_is_an_error_before_anything_is_converted(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(Quantizer, "_convert", None)
        with pytest.raises(
            ConfigurationError, match=r"2 of 3 layers as the algorithms have left them.*\n  one: factors"
        ):
            quantizer(algorithms=["smoothquant"]).quantize(Scaled(), ROWS)

    def test_layers_that_are_kept_are_those_of_the_model(self, tmp_path: Path):
        made, model = quantizer(algorithms=["smoothquant"], on_refusal="keep"), Scaled()
        result = made.quantize(model, ROWS)
        assert result.info.skipped_layers == dict.fromkeys(["one", "other"], "picky cannot hold it: factors")
        assert type(result.model.one) is nn.Linear
        assert torch.equal(result.model.one.weight, model.one.weight)
        assert result.plan.rewrites == ()
        result.save(tmp_path / "model.picky")
        assert torch.equal(made.load(tmp_path / "model.picky", Scaled)(ROWS[0]), result.model(ROWS[0]))

    def test_nothing_left_is_an_error(self):
        with pytest.raises(ConfigurationError, match="nothing would be quantized"):
            quantizer(algorithms=["smoothquant"], on_refusal="keep", exclude="head").quantize(Scaled(), ROWS)


def test_a_layer_that_a_target_keeps_has_no_factor():
    model = Scaled()
    result = Quantizer(
        algorithms=["smoothquant"], target=MinSQNR(45, then=()), show_progress=False, on_failure="ignore"
    ).quantize(model, ROWS)
    assert "one" in result.plan.kept
    assert type(result.model.one) is nn.Linear
    assert torch.equal(result.model.one.weight, model.one.weight)
    assert all("one" not in rewrite.layers for rewrite in result.plan.rewrites)


class TestTargets:
    def test_no_layer_is_given_a_scheme_that_is_refused(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(
            Picky, "refusals", lambda _, layers, _kept: {n: "floats" for n in layers if layers[n].input is None}
        )
        asked = MinSQNR(45, then=["int8-weight-only"])
        free = Quantizer(target=asked, show_progress=False, on_failure="ignore").quantize(Scaled(), ROWS)
        assert "int8-weight-only" in free.found.changed.values()
        result = quantizer(target=asked).quantize(Scaled(), ROWS)
        assert result.found.is_met
        assert set(result.found.changed.values()) == {"float"}

    def test_layers_that_are_refused_beside_each_other_go_to_float(self, monkeypatch: pytest.MonkeyPatch):
        def torn(_: Picky, layers: Mapping[str, LayerPlan], kept: Collection[str]) -> dict[str, str]:
            return {
                name: "its twin is float" for name in {"one", "other"} & set(layers) if {"one", "other"} & set(kept)
            }

        monkeypatch.setattr(Picky, "refusals", torn)
        model = Scaled()
        with torch.no_grad():
            model.other.weight *= 1e-3  # so that it alone need not be float
        asked = MinSQNR(30, then=())
        free = Quantizer(target=asked, show_progress=False, on_failure="ignore").quantize(model, ROWS)
        assert set(free.plan.kept) & {"one", "other"} == {"one"}
        result = quantizer(target=asked).quantize(model, ROWS)
        assert {"one", "other"} <= set(result.plan.kept)
        assert result.plan.kept["other"] == "the format cannot hold it: its twin is float"
        assert result.found.is_met
        assert result.plan.layers


def test_a_format_is_told_what_stays_in_float(monkeypatch: pytest.MonkeyPatch):
    told = []
    monkeypatch.setattr(Picky, "refusals", lambda _, layers, kept: told.append((set(layers), set(kept))) or {})
    quantizer(exclude="head").plan(Model())
    quantizer(scheme="int8-weight-only", exclude="head").quantize_checkpoint(Model().state_dict())
    assert [layers for layers, _ in told] == [{"conv", "pair.0", "pair.1"}] * 2
    assert all("head" in kept and not kept & layers for layers, kept in told)
