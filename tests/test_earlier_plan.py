"""The earlier plan, item by item: names, paths and signatures, and quantization in one call."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mono_quant
from mono_quant.calibration import _normalize_calibration_data, run_calibration
from mono_quant.calibration.data import CalibrationData, _limit_samples
from mono_quant.calibration.runner import _auto_detect_progress_threshold
from mono_quant.core.quantizers import QuantizationInfo, dynamic_quantize, static_quantize
from mono_quant.io.validation import ValidationResult, validate_quantization

NAMES = {
    "mono_quant": "dynamic_quantize static_quantize save_model load_model QuantizationConfig ValidationResult "
    "validate_quantization",
    "mono_quant.calibration": "run_calibration _normalize_calibration_data",
    "mono_quant.calibration.data": "CalibrationData _normalize_calibration_data _limit_samples",
    "mono_quant.calibration.runner": "run_calibration _auto_detect_progress_threshold",
    "mono_quant.core": "MinMaxObserver",
    "mono_quant.core.observers": "MinMaxObserver",
    "mono_quant.core.quantizers": "static_quantize dynamic_quantize QuantizationInfo",
    "mono_quant.io": "_detect_input_format _prepare_model _validate_model save_model load_model save_pytorch "
    "load_pytorch save_safetensors load_safetensors ValidationResult calculate_model_size calculate_sqnr "
    "validate_quantization",
    "mono_quant.io.validation": "ValidationResult calculate_model_size calculate_sqnr _calculate_model_sqnr "
    "_check_weight_ranges _test_load_run validate_quantization",
}
LEADING: list[tuple[Callable[..., Any], list[str]]] = [
    (run_calibration, ["model", "calibration_data", "observers=None", "num_samples=150", "show_progress=None"]),
    (_normalize_calibration_data, ["calibration_data"]),
    (_limit_samples, ["tensors", "num_samples"]),
    (_auto_detect_progress_threshold, ["num_samples"]),
    (static_quantize, ["model", "calibration_data"]),
    (dynamic_quantize, ["model"]),
    (validate_quantization, ["original", "quantized", "on_failure='error'"]),
]


def classifier() -> nn.Sequential:
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))


def inputs(count: int) -> list[Tensor]:
    return [torch.randn(4, 10) for _ in range(count)]


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in NAMES.items() for name in names.split()])
def test_every_name_is_at_its_path(path: str, name: str):
    assert hasattr(import_module(path), name)


@pytest.mark.parametrize("path", ["mono_quant", "mono_quant.io", "mono_quant.calibration", "mono_quant.core"])
def test_what_a_package_exports_is_named_in_its_all(path: str):
    assert set(NAMES[path].split()) <= set(import_module(path).__all__)


@pytest.mark.parametrize(("function", "parameters"), LEADING, ids=lambda value: getattr(value, "__name__", ""))
def test_a_function_takes_what_the_plan_says_in_that_order(function: Callable[..., Any], parameters: list[str]):
    positional = [p for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in positional]
    assert named[: len(parameters)] == parameters


@pytest.mark.parametrize("function", [static_quantize, dynamic_quantize])
def test_quantizing_validates_by_default_and_a_failure_is_an_error(function: Callable[..., Any]):
    parameters = inspect.signature(function).parameters
    assert (parameters["run_validation"].default, parameters["on_failure"].default) == (True, "error")


def test_calibration_data_is_a_list_of_tensors_or_a_loader():
    assert CalibrationData == list[Tensor] | DataLoader[Any]


def test_a_validation_result_takes_its_fields_in_the_order_of_the_plan():
    result = ValidationResult(30.0, 4.0, 1.0, 4.0, True, True, ["failed"])  # noqa: FBT003 - the plan's own order
    assert (result.sqnr_db, result.original_size_mb, result.quantized_size_mb, result.compression_ratio) == (
        30,
        4,
        1,
        4,
    )
    assert (result.load_test_passed, result.weight_range_valid, result.errors) == (True, True, ["failed"])


def test_a_validation_result_has_passed_nothing_until_told():
    result = ValidationResult(30.0, 4.0, 1.0, 4.0)
    assert (result.load_test_passed, result.weight_range_valid, result.errors) == (False, False, [])


def test_static_quantization_gives_the_figures_of_the_plan():
    _, info = static_quantize(classifier(), inputs(50), on_failure="warn")
    assert isinstance(info, QuantizationInfo)
    assert info.sqnr_db is not None
    assert info.compression_ratio is not None
    assert info.compression_ratio > 1
    assert (info.original_size_mb, info.calibration_samples_used) == (4 * 325 / 2**20, 50)


def test_static_quantization_is_close_to_float_and_leaves_the_model_alone():
    model, data = classifier(), inputs(8)
    before = model[0].weight.detach().clone()
    quantized, info = mono_quant.static_quantize(model, DataLoader(TensorDataset(torch.cat(data)), batch_size=4))
    with torch.no_grad():
        signal, noise = model(data[0]).double(), (model(data[0]) - quantized(data[0])).double()
    expected = 10 * torch.log10((signal**2).sum() / (noise**2).sum())
    assert info.sqnr_db == pytest.approx(expected.item(), rel=1e-9)
    assert torch.equal(model[0].weight, before)


def test_layers_are_selected_by_type_and_by_exact_name():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    data = [torch.randn(4, 4)]
    options = {"on_failure": "ignore"}
    assert static_quantize(model, data, layer_names=["1.0"], **options)[1].selected_layers == ("1.0",)
    assert static_quantize(model, data, layer_types=[nn.Linear], **options)[1].selected_layers == ("0", "1.0", "1.1")
    info = static_quantize(model, data, layer_types=nn.Linear, skip_names=["0", "1.1"], **options)[1]
    assert info.selected_layers == ("1.0",)
    assert set(info.skipped_layers) == {"0", "1.1"}


def test_layers_are_skipped_by_type():
    model = nn.Sequential(nn.Conv1d(2, 4, 1), nn.Flatten(), nn.Linear(12, 4))
    info = static_quantize(model, [torch.randn(2, 2, 3)], skip_types=[nn.Conv1d], on_failure="ignore")[1]
    assert info.selected_layers == ("2",)


def test_dynamic_quantization_needs_no_data_and_tells_its_figures():
    model = classifier()
    quantized, info = mono_quant.dynamic_quantize(model)
    assert isinstance(info, QuantizationInfo)
    assert (info.selected_layers, info.calibration_samples_used) == (("0", "2"), 0)
    assert info.compression_ratio > 1
    assert [type(layer) for layer in model] == [nn.Linear, nn.ReLU, nn.Linear]
    assert type(quantized[0]) is not nn.Linear


@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e3])
def test_a_dynamic_layer_is_right_to_half_a_code_of_weights_and_inputs(magnitude: float):
    layer, x = nn.Linear(10, 20), torch.randn(8, 10) * magnitude
    quantized, _ = mono_quant.dynamic_quantize(nn.Sequential(layer))
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    half_weight = weight.abs().amax(dim=1) / 64 / 2  # pair-safe scales are at most the largest weight over 64
    half_input = (x.amax().clamp(min=0) - x.amin().clamp(max=0)).double() / 255 / 2
    parts = x.double().abs() @ weight.abs().T + bias.abs()
    from_codes = x.double().abs().sum(1)[:, None] * half_weight + half_input * (weight.abs().sum(1) + 10 * half_weight)
    # Quotients of up to 256 scales, rounded to float32, may move a tie by 2^-16 scales; then some roundings of the sum.
    allowed = from_codes * (1 + 2**-13) + parts * 8 * 2**-24
    assert ((quantized(x).double() - (x.double() @ weight.T + bias)).abs() <= allowed).all()
