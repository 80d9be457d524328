"""Validating a pair of models: the record of what was found, and what a failure does."""

import math
import sys
import warnings

import pytest
import torch
from planted import layer, original, quantized
from small_models import FEATURES, ConvNet, images, quantize
from torch import nn

from mono_quant import Batch, Quantizer, ValidationResult, static_quantize, validate_quantization
from mono_quant.errors import ConfigurationError, QuantizationWarning, ValidationError
from mono_quant.io.validation import calculate_model_size, calculate_sqnr
from mono_quant.plugin_api import ValidationFinding


def broken() -> nn.Module:
    model = quantized()
    layer(model).input_zero_point.fill_(300)
    return model


def test_a_sound_pair_gives_a_complete_record():
    result = validate_quantization(original(), quantized(), batch=Batch((torch.randn(3, FEATURES),)))
    assert result.load_test_passed
    assert result.weight_range_valid
    assert result.errors == []
    assert result.compression_ratio == result.original_size_mb / result.quantized_size_mb > 1
    assert result.layer_sqnr_db == {"0": result.weight_sqnr_db}
    assert 20 < result.sqnr_db < 80
    sizes = ["original-size", "quantized-size", "compression-ratio"]
    names = ["weight-sqnr", "output-sqnr", *sizes, "weight-range", "load-run"]
    assert [finding.name for finding in result.findings] == names


@pytest.mark.parametrize("copies", [0, 1])
def test_a_pair_of_float_models_is_no_sound_pair(copies: int):
    second = [original(), nn.Linear(9, 8)][copies]
    with pytest.raises(ValidationError, match=r"pair: nothing in the second model, a .*, is quantized"):
        validate_quantization(original(), second)
    assert validate_quantization(original(), second, on_failure="ignore").errors[0].startswith("pair: ")


def test_a_model_quantized_from_one_of_other_shapes_is_no_pair():
    second = quantize(nn.Linear(FEATURES + 1, FEATURES), [torch.randn(3, FEATURES + 1)]).model
    with pytest.raises(
        ValidationError, match=r"pair: weight is \[8, 8\] in the first model and \[8, 9\] in the second"
    ):
        validate_quantization(nn.Linear(FEATURES, FEATURES), second)


def test_without_a_batch_the_sqnr_is_that_of_the_weights():
    result = validate_quantization(original(), quantized())
    assert result.sqnr_db == result.weight_sqnr_db


def test_a_failure_is_an_error_by_default():
    with pytest.raises(ValidationError, match=r"weight-range: 0\.input_zero_point 300"):
        validate_quantization(original(), broken())


def test_a_failure_can_be_a_warning():
    with pytest.warns(QuantizationWarning, match=r"weight-range: 0\.input_zero_point 300") as caught:
        result = validate_quantization(original(), broken(), on_failure="warn")
    assert not result.weight_range_valid
    assert len(caught) == 1


def test_the_warning_points_at_the_line_that_validates():
    with pytest.warns(QuantizationWarning) as caught:
        validate_quantization(original(), broken(), on_failure="warn")
    line = sys._getframe().f_lineno - 1
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]


def test_the_warning_of_the_pipeline_points_at_the_line_that_quantizes():
    options = {"validators": [{"name": "sqnr", "minimum": 500.0}], "on_failure": "warn"}
    quantizer, data = Quantizer(**options), images()
    with pytest.warns(QuantizationWarning) as caught:
        quantizer.quantize(ConvNet(), data)
    line = sys._getframe().f_lineno - 1
    with pytest.warns(QuantizationWarning) as also_caught:
        static_quantize(ConvNet(), data, **options)
    found = [(warning.filename, warning.lineno) for warning in [*caught, *also_caught]]
    assert found == [(__file__, line), (__file__, line + 3)]


def test_a_failure_can_be_ignored_and_is_still_recorded():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = validate_quantization(original(), broken(), on_failure="ignore")
    assert not result.weight_range_valid
    assert result.load_test_passed
    assert len(result.errors) == 1
    assert result.errors[0].startswith("weight-range: 0.input_zero_point 300")


@pytest.mark.parametrize("on_failure", ["error", "warn", "ignore"])
def test_without_a_failure_all_three_are_silent(on_failure: str):
    assert validate_quantization(original(), quantized(), on_failure=on_failure).errors == []


@pytest.mark.parametrize("on_failure", ["raise", "", "ERROR", None, 1, True])
def test_anything_else_is_refused_before_anything_is_checked(on_failure: object):
    with pytest.raises(ConfigurationError, match="on_failure must be one of"):
        validate_quantization(original(), None, on_failure=on_failure)


@pytest.mark.parametrize("on_failure", ["warn", "ignore"])
def test_the_pipeline_passes_on_what_a_failure_does(on_failure: str):
    options = {"validators": [{"name": "sqnr", "minimum": 500.0}], "on_failure": on_failure}
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = quantize(model, images(), **options)
    assert len(result.validation.errors) == 1
    assert [w.category for w in caught] == ([QuantizationWarning] if on_failure == "warn" else [])


def test_a_model_whose_state_does_not_load_is_a_finding():
    class Forgetful(nn.Sequential):
        def state_dict(self, *args: object, **kwargs: object) -> dict:
            state = super().state_dict(*args, **kwargs)
            state.pop("1.bias", None)
            return state

    model = Forgetful(*quantized())
    result = validate_quantization(original(), model, on_failure="ignore")
    assert not result.load_test_passed
    assert "1.bias" in result.errors[0]


def test_validation_does_not_change_the_models():
    float_model, model = original().train(), quantized().train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    validate_quantization(float_model, model, batch=Batch((torch.randn(3, FEATURES),)))
    assert all(module.training for pair in (float_model, model) for module in pair.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_the_record_takes_its_figures_by_position():
    result = ValidationResult(30.0, 4.0, 1.0, 4.0, True, False, ["x"])  # noqa: FBT003 - the order of the earlier plan
    assert (result.sqnr_db, result.original_size_mb, result.quantized_size_mb) == (30.0, 4.0, 1.0)
    assert (result.compression_ratio, result.load_test_passed, result.weight_range_valid) == (4.0, True, False)
    assert result.errors == ["x"]


def test_a_record_of_nothing_claims_nothing():
    result = ValidationResult.of([])
    assert (result.sqnr_db, result.compression_ratio, result.layer_sqnr_db) == (None, None, {})
    assert not result.load_test_passed
    assert not result.weight_range_valid


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_check_that_did_not_pass_is_not_recorded_as_passed(status: str):
    findings = [ValidationFinding(name=name, status=status, message="why") for name in ("load-run", "weight-range")]
    result = ValidationResult.of(findings)
    assert not result.load_test_passed
    assert not result.weight_range_valid
    assert result.errors == (["load-run: why", "weight-range: why"] if status == "failed" else [])


def test_size_counts_bytes_of_every_kind_of_tensor_once():
    model = nn.Sequential(nn.Linear(10, 20), nn.BatchNorm1d(20).double(), nn.Linear(10, 20))
    model[2].weight = model[0].weight
    model.register_buffer("lost", torch.zeros(3, dtype=torch.int8), persistent=False)
    floats, doubles = 200 + 20 + 20, 4 * 20
    assert calculate_model_size(model) == ((4 * floats + 8 * doubles + 8 + 3) / 2**20, floats + 40)


def test_size_of_a_model_without_tensors_is_zero():
    assert calculate_model_size(nn.ReLU()) == (0.0, 0)


@pytest.mark.parametrize(
    ("x", "approximation", "value"),
    [
        ([3.0, 4.0], [3.0, 4.0], math.inf),
        ([3.0, 4.0], [3.0, 3.5], 20.0),
        ([1.0], [0.0], 0.0),
        ([1.0], [11.0], -20.0),
        ([0.0], [1.0], -math.inf),
        ([0.0], [0.0], math.inf),
        ([], [], math.inf),
        ([1e-30], [0.9e-30], 20.0),
        ([1e30], [0.9e30], 20.0),
        ([math.nan], [1.0], math.nan),
        ([1.0], [math.nan], math.nan),
        ([math.inf], [math.inf], math.nan),
    ],
)
def test_sqnr_of_tensors_in_decibels(x: list[float], approximation: list[float], value: float):
    found = calculate_sqnr(torch.tensor(x, dtype=torch.float64), torch.tensor(approximation, dtype=torch.float64))
    assert found == pytest.approx(value, abs=1e-9, nan_ok=True)


def test_sqnr_of_tensors_that_differ_in_dtype_or_layout_is_taken_by_value():
    x = torch.randn(4, 6)
    assert calculate_sqnr(x, x.double()) == math.inf
    assert calculate_sqnr(x.t(), x.t().contiguous()) == math.inf
    assert calculate_sqnr(torch.tensor([3, 4]), torch.tensor([3.0, 3.5])) == pytest.approx(20, abs=1e-9)
