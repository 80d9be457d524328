"""Weights that several layers share."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from small_models import FEATURES, Tied, quantize, rows, run, tokens
from torch import Tensor, nn
from torch.nn import functional

from mono_quant import QuantizationResult, Quantizer, load_model
from mono_quant.errors import ConfigurationError


class TiedBoth(nn.Module):
    """Two Linears whose weights and biases are one, and whose inputs have one range."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)
        self.b.weight, self.b.bias = self.a.weight, self.a.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)


@pytest.fixture
def result() -> QuantizationResult:
    return quantize(Tied(), tokens())


def pointers(model: nn.Module) -> tuple[int, int]:
    return model.up.weight.data_ptr(), model.down.weight.data_ptr()


def test_tied_linears_share_their_codes(result: QuantizationResult):
    up, down = result.model.up, result.model.down
    assert up.weight is down.weight
    assert up.weight_scale is down.weight_scale


def test_tied_linears_keep_ranges_and_biases_of_their_own(result: QuantizationResult):
    up, down = result.model.up, result.model.down
    assert up.input_scale is not down.input_scale
    assert up.bias is not down.bias


def test_what_does_not_follow_from_the_tied_weight_is_not_shared_even_where_it_is_equal():
    model = quantize(TiedBoth(), rows()).model
    assert torch.equal(model.a.input_scale, model.b.input_scale)
    assert model.a.input_scale is not model.b.input_scale
    assert model.a.bias is model.b.bias


def test_a_linear_tied_to_an_embedding_is_kept_with_the_reason(result: QuantizationResult):
    assert result.info.skipped_layers["head"] == "a parameter of it is tied to 'table', which stays in float"
    assert result.model.head.weight is result.model.table.weight


def test_the_ledger_counts_tied_codes_once(result: QuantizationResult):
    after = sum(entry.bytes_after for entry in result.plan.entries)
    counted = {id(t): t for t in (*result.model.parameters(), *result.model.buffers())}
    assert after == sum(t.numel() * t.element_size() for t in counted.values())


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_ties_survive_saving_and_loading(result: QuantizationResult, tmp_path: Path, suffix: str):
    path = tmp_path / f"model.{suffix}"
    result.save(path)
    loaded = Quantizer().load(path, Tied)
    assert loaded.up.weight is loaded.down.weight
    assert loaded.head.weight is loaded.table.weight
    assert isinstance(loaded.head.weight, nn.Parameter)
    loaded.to(torch.float64)
    assert loaded.head.weight.data_ptr() == loaded.table.weight.data_ptr()


def test_a_tied_tensor_is_in_the_file_once(result: QuantizationResult, tmp_path: Path):
    result.save(tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    assert names & {"up.weight", "down.weight", "head.weight", "table.weight"} == {"up.weight", "table.weight"}
    assert load_model(tmp_path / "model.safetensors").keys() == result.model.state_dict().keys()


def test_a_file_of_an_untied_model_keeps_its_two_weights_in_a_tied_one(tmp_path: Path):
    model = Tied()
    model.head.weight = nn.Parameter(torch.randn(16, FEATURES))
    result = quantize(model, tokens(), exclude=["head"])
    result.save(tmp_path / "model.safetensors")
    loaded = Quantizer().load(tmp_path / "model.safetensors", Tied)
    assert torch.equal(loaded.head.weight, model.head.weight)
    assert torch.equal(loaded.table.weight, model.table.weight)


def test_a_weight_that_is_read_outside_its_layer_keeps_the_layer_in_float():
    class Functional(Tied):
        def forward(self, tokens: Tensor) -> Tensor:
            x = self.down(self.up(self.table(tokens)))
            return self.more(functional.linear(x, self.up.weight))

    model, data = Functional(), tokens()
    model.more = nn.Linear(FEATURES, FEATURES)
    result = quantize(model, data)
    assert result.info.selected_layers == ("more",)
    for name in ("up", "down"):
        assert result.info.skipped_layers[name] == "its weight is also read by linear, outside the layer"
    assert torch.isfinite(run(result.model, data[0])).all()


def test_a_weight_whose_dtype_is_asked_for_keeps_the_layer_in_float():
    class Casting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x.to(self.a.weight.dtype)))

    result = quantize(Casting(), rows())
    assert list(result.info.skipped_layers) == ["a"]
    assert result.info.skipped_layers["a"].startswith("dtype of its weight is read outside the layer, as in x.to(")
    insisting = quantize(Casting(), rows(), overrides={"a": {"scheme": "int8-weight-only"}})
    assert insisting.info.selected_layers == ("a", "b")


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
def test_a_model_that_finds_its_dtype_through_its_parameters_is_quantized_whole(scheme: str):
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x.to(next(self.parameters()).dtype)))

    result = quantize(Cast(), rows(), scheme=scheme)
    assert result.info.selected_layers == ("a", "b")
    assert result.info.sqnr_db > 25


class TiedTable(nn.Module):
    """An embedding and the layer that turns back into words, with one matrix and one more bias."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(16, 8), nn.Linear(8, 16)
        self.head.weight = self.table.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.table(words))


INT4 = {"scheme": {"name": "int4-weight-only", "group_size": 8}}
PER_TENSOR = {"scheme": {"name": "int8-weight-only", "granularity": "per-tensor"}}


@pytest.mark.parametrize("override", [INT4, PER_TENSOR, {"scheme": "int8-dynamic"}])
def test_one_weight_quantized_in_two_ways_is_refused_as_for_a_checkpoint(override: dict[str, Any]):
    quantizer = Quantizer("int8-weight-only", overrides={"head": override})
    message = r"'table\.weight' and 'head\.weight' are one tensor, which would be quantized in two ways: choose one"
    with pytest.raises(ConfigurationError, match=message):
        quantizer.plan(TiedTable())
    if override["scheme"] != "int8-dynamic":  # which needs a model
        with pytest.raises(ConfigurationError, match=message):
            _ = quantizer.quantize_checkpoint(TiedTable().state_dict()).plan


def test_one_weight_quantized_in_one_way_by_an_override_for_both_is_stored_once():
    quantized = Quantizer("int8-weight-only", overrides={"table": INT4, "head": INT4}).quantize(TiedTable()).model
    assert quantized.table.stored("weight")[""] is quantized.head.stored("weight")[""]


def test_a_bias_that_is_shared_by_layers_of_two_schemes_is_no_weight():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].bias = model[0].bias
    plan = Quantizer("int8-weight-only", overrides={"0": PER_TENSOR, "1": {"scheme": "int8-dynamic"}}).plan(model)
    assert list(plan.layers) == ["0", "1"]
