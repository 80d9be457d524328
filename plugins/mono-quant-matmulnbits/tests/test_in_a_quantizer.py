"""The kernel as a plugin of mono_quant, with and without a working ONNX Runtime."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mono_quant import Quantizer
from mono_quant.kernels.select import forget_measurements
from torch import Tensor, nn

import mono_quant_matmulnbits
from mono_quant_matmulnbits.kernel import _OPERATOR, _failure


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(300, 64), nn.GELU(), nn.Linear(64, 48, bias=False)).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 9, 300, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def broken() -> Iterator[pytest.MonkeyPatch]:
    """Afterwards everything is tried anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, _OPERATOR, raising=False)
        _failure.cache_clear()
        forget_measurements()
        yield patch
    sys.modules.pop(_OPERATOR, None)
    _failure.cache_clear()
    forget_measurements()


def quantizer(kernel: str, **options: object) -> Quantizer:
    scheme = {"name": "int4-weight-only", "misfit": "pad", **options}
    return Quantizer(
        scheme, kernel=kernel, plugins=[mono_quant_matmulnbits], autoload=False, validators=(), show_progress=False
    )


def names(model: nn.Module) -> set[str]:
    return {name for layer in model if isinstance(layer, nn.Linear) for name in layer.kernels_in_use}


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Two float32 sums of at most 300 terms, one after the other."""
    assert float((actual - expected).abs().max()) <= 300 * 2**-22 * float(expected.abs().max())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [32, 128])
def test_it_gives_what_the_reference_gives(model: nn.Module, x: Tensor, *, symmetric: bool, group_size: int):
    ours = quantizer("matmulnbits", symmetric=symmetric, group_size=group_size).quantize(model).model
    reference = quantizer("reference", symmetric=symmetric, group_size=group_size).quantize(model).model
    with torch.no_grad():
        assert_close(ours(x), reference(x))
        assert_close(ours(x[0, 0]), reference(x[0, 0]))
    assert (names(ours), names(reference)) == ({"matmulnbits"}, {"reference"})


@pytest.mark.parametrize("name", ["int2-weight-only", "int3-weight-only"])
def test_it_runs_weights_of_fewer_bits(model: nn.Module, x: Tensor, name: str):
    ours = quantizer("matmulnbits", name=name).quantize(model).model
    with torch.no_grad():
        assert_close(ours(x), quantizer("reference", name=name).quantize(model).model(x))
    assert names(ours) == {"matmulnbits"}


def test_a_model_that_runs_with_it_can_be_copied_and_pickled(model: nn.Module, x: Tensor):
    ours = quantizer("matmulnbits").quantize(model).model
    with torch.no_grad():
        expected = ours(x)
        for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):  # noqa: S301 - pickled on this line
            assert torch.equal(twin(x), expected)
            assert names(twin) == {"matmulnbits"}


def test_a_loaded_model_runs_with_it(model: nn.Module, x: Tensor, tmp_path: Path):
    result = quantizer("matmulnbits").quantize(model)
    result.save(tmp_path / "model.safetensors")
    loaded = quantizer("matmulnbits").load(tmp_path / "model.safetensors", model=model)
    with torch.no_grad():
        assert torch.equal(loaded(x), result.model(x))
    assert names(loaded) == {"matmulnbits"}


def test_new_weights_are_packed_anew(model: nn.Module, x: Tensor):
    one = quantizer("matmulnbits").quantize(model).model
    for parameter in model.parameters():
        parameter.data.mul_(-2)
    other = quantizer("matmulnbits").quantize(model).model
    with torch.no_grad():
        one(x)
        one.load_state_dict(other.state_dict())
        assert torch.equal(one(x), other(x))


def test_where_onnxruntime_is_missing_another_kernel_runs_the_layer(
    model: nn.Module, x: Tensor, broken: pytest.MonkeyPatch
):
    broken.setitem(sys.modules, "onnxruntime", None)
    ours = quantizer("matmulnbits").quantize(model).model
    with torch.no_grad():
        ours(x)
    assert names(ours)
    assert "matmulnbits" not in names(ours)
    assert _failure().startswith("ONNX Runtime cannot run MatMulNBits here: ModuleNotFoundError: ")


def test_where_the_operator_is_unknown_it_says_so(broken: pytest.MonkeyPatch):
    def without_it(*_: object, **__: object) -> None:
        raise RuntimeError("MatMulNBits is not a registered function")

    broken.setattr("onnxruntime.InferenceSession", without_it)
    assert _failure().endswith("RuntimeError: MatMulNBits is not a registered function")


def test_onnxruntime_is_not_imported_before_a_layer_needs_it():
    code = "import sys, mono_quant_matmulnbits; assert not {'onnx', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own
