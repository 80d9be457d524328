"""The earlier plan, item by item: validation."""

import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer, static_quantize, validate_quantization
from mono_quant.errors import ConfigurationError, QuantizationWarning
from mono_quant.io.validation import (
    _calculate_model_sqnr,
    _check_weight_ranges,
    _test_load_run,
    calculate_model_size,
    calculate_sqnr,
)
from mono_quant.plugin_api import Batch


class Unstorable(nn.Identity):
    """A module whose state is no tensor, so that no file of tensors can hold it."""

    def get_extra_state(self) -> object:
        return {"answer": 42}

    def set_extra_state(self, state: object) -> None:
        pass


def pair(*more: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A float model and its quantized form, not validated yet."""
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5), *more)
    return model, static_quantize(model, [torch.randn(4, 10)], run_validation=False)[0]


def spoiled() -> tuple[nn.Module, nn.Module]:
    model, quantized = pair()
    quantized.get_submodule("2").weight_scale[0] = math.nan
    return model, quantized


def exact_sqnr(pairs: list[tuple[Tensor, Tensor]]) -> float:
    signal = sum(float(x.double().square().sum()) for x, _ in pairs)
    noise = sum(float((x.double() - y.double()).square().sum()) for x, y in pairs)
    return 10 * math.log10(signal / noise)


def weights(model: nn.Module, quantized: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    layer = quantized.get_submodule(name)
    return model.get_submodule(name).weight.detach(), layer.weight.float() * layer.weight_scale[:, None]


def test_a_linear_of_10_by_20_has_220_parameters():
    assert calculate_model_size(nn.Linear(10, 20)) == (220 * 4 / 2**20, 220)


def test_buffers_count_as_bytes_and_not_as_parameters():
    assert calculate_model_size(nn.BatchNorm1d(4)) == ((16 * 4 + 8) / 2**20, 8)


def test_shared_parameters_count_once():
    layer = nn.Linear(10, 20)
    assert calculate_model_size(nn.Sequential(layer, layer)) == calculate_model_size(layer)


def test_quantized_codes_count_as_the_parameters_they_stand_for():
    model, quantized = pair()
    weights_and_biases = 10 * 20 + 20 + 20 * 5 + 5
    assert calculate_model_size(model)[1] == weights_and_biases
    assert calculate_model_size(quantized)[1] >= 10 * 20 + 20 * 5


def test_sqnr_is_in_decibels():
    assert calculate_sqnr(torch.tensor([10.0]), torch.tensor([9.0])) == pytest.approx(20.0, rel=1e-13)


def test_sqnr_dequantizes_a_quantized_tensor_first():
    x = torch.tensor([0.0, 1.0, 2.25])
    with warnings.catch_warnings(action="ignore"):  # torch says that such tensors will go
        quantized = torch.quantize_per_tensor(x, 0.5, 3, torch.quint8)
    assert calculate_sqnr(x, quantized) == calculate_sqnr(x, torch.tensor([0.0, 1.0, 2.0]))


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_sqnr_is_infinite_only_without_noise_however_small_the_weights(size: float):
    x = torch.tensor([size, size])
    assert calculate_sqnr(x, x) == math.inf
    assert calculate_sqnr(x, x * torch.tensor([1.0, 0.5])) == pytest.approx(10 * math.log10(8), rel=1e-13)


def test_sqnr_of_different_shapes_is_refused():
    with pytest.raises(ConfigurationError, match=r"\(2,\) and \(1, 2\)"):
        calculate_sqnr(torch.ones(2), torch.ones(1, 2))


def test_model_sqnr_is_that_of_all_quantized_weights():
    model, quantized = pair(nn.LayerNorm(5))
    expected = exact_sqnr([weights(model, quantized, name) for name in ("0", "2")])
    assert _calculate_model_sqnr(model, quantized) == pytest.approx(expected, rel=1e-9)


def test_validation_gives_the_sqnr_of_each_layer_by_name():
    model, quantized = pair(nn.LayerNorm(5))
    found = validate_quantization(model, quantized).layer_sqnr_db
    assert set(found) == {"0", "2"}
    for name, value in found.items():
        assert value == pytest.approx(exact_sqnr([weights(model, quantized, name)]), rel=1e-9)


def test_validation_with_a_batch_gives_the_sqnr_of_the_output():
    model, quantized = pair()
    x = torch.randn(6, 10)
    with torch.no_grad():
        expected = exact_sqnr([(model(x), quantized(x))])
    assert validate_quantization(model, quantized, batch=Batch(args=(x,))).sqnr_db == pytest.approx(expected, rel=1e-9)


def test_validation_of_a_sound_model_passes_its_four_checks():
    result = validate_quantization(*pair())
    assert (result.load_test_passed, result.weight_range_valid, result.errors) == (True, True, [])
    assert result.original_size_mb == 325 * 4 / 2**20
    assert result.compression_ratio == result.original_size_mb / result.quantized_size_mb


@pytest.mark.parametrize(("make", "check"), [(spoiled, "weight-range"), (lambda: pair(Unstorable()), "load-run")])
class TestAFailedCheck:
    def test_is_a_value_error_by_default(self, make: Any, check: str):  # noqa: ANN401
        with pytest.raises(ValueError, match=check):
            validate_quantization(*make())

    def test_is_a_warning_where_asked_and_stands_in_the_errors(self, make: Any, check: str):  # noqa: ANN401
        with pytest.warns(QuantizationWarning, match=check):
            result = validate_quantization(*make(), on_failure="warn")
        assert check in "".join(result.errors)

    def test_is_silent_where_asked_and_stands_in_the_errors(self, make: Any, check: str):  # noqa: ANN401
        result = validate_quantization(*make(), on_failure="ignore")
        assert [check in error for error in result.errors] == [True]
        assert result.load_test_passed == (check != "load-run")
        assert result.weight_range_valid == (check != "weight-range")


@pytest.mark.parametrize("on_failure", ["raise", "", None, "ERROR"])
def test_another_word_for_what_a_failure_does_is_refused_even_where_nothing_fails(on_failure: Any):  # noqa: ANN401
    with pytest.raises(ConfigurationError, match="on_failure must be one of"):
        validate_quantization(*pair(), on_failure=on_failure)
    with pytest.raises(ConfigurationError, match="on_failure must be one of"):
        static_quantize(pair()[0], [torch.randn(4, 10)], on_failure=on_failure)


@pytest.mark.parametrize(("name", "value"), [("weight", -128), ("weight_scale", 0.0), ("weight_scale", -1.0)])
def test_a_code_or_scale_out_of_range_is_found(name: str, value: float):
    _, quantized = pair()
    assert _check_weight_ranges(quantized)
    getattr(quantized.get_submodule("0"), name).view(-1)[-1] = value
    assert not _check_weight_ranges(quantized)


@pytest.mark.parametrize("value", [-1, 256])
def test_a_zero_point_out_of_range_is_found(value: int):
    _, quantized = pair()
    quantized.get_submodule("0").input_zero_point.fill_(value)
    assert not _check_weight_ranges(quantized)


def test_large_weights_are_in_range_and_half_precision_ones_must_be_finite():
    _, quantized = pair(nn.LayerNorm(5))
    norm = quantized.get_submodule("3").half()
    norm.weight.data.fill_(60000)
    assert _check_weight_ranges(quantized)
    norm.weight.data[0] = math.inf
    assert not _check_weight_ranges(quantized)


def test_a_sound_model_loads_and_runs():
    assert _test_load_run(pair()[1])
    assert _test_load_run(pair()[1], Batch(args=(torch.randn(3, 10),)))


def test_a_model_that_cannot_be_stored_does_not():
    assert not _test_load_run(pair(Unstorable())[1])


@pytest.mark.parametrize("more", [(), (Unstorable(),)], ids=["passed", "failed"])
def test_the_file_of_the_load_run_is_removed(more: tuple[nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _test_load_run(pair(*more)[1])
    assert list(tmp_path.iterdir()) == []


def test_the_load_run_uses_a_real_batch_and_guesses_no_shape():
    model = nn.Sequential(nn.Embedding(10, 8), nn.Flatten(), nn.Linear(24, 4))
    result = Quantizer().quantize(model, [torch.randint(0, 10, (2, 3))])
    assert result.validation is not None
    assert result.validation.load_test_passed


def test_quantizing_without_validation_has_no_figures_of_it():
    info = static_quantize(pair()[0], [torch.randn(4, 10)], run_validation=False)[1]
    assert (info.sqnr_db, info.compression_ratio) == (None, None)
