"""What is found out about kernels once is kept by the process: it must not depend on where a model first runs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.core.encoding import encode
from mono_quant.core.granularity import PerChannel
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.core.weights import quantize_weight
from mono_quant.kernels import probe
from mono_quant.kernels.dequantize import DequantizeKernel
from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.saturation import worst_linear
from mono_quant.kernels.select import forget_measurements
from mono_quant.kernels.verify import verify
from mono_quant.plugin_api import Kernel, Op, WeightOnlyOp


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "meta": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
}
EVERYWHERE = pytest.mark.parametrize("around", SURROUNDINGS.values(), ids=SURROUNDINGS)


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> Iterator[None]:
    for forget in (forget_measurements, probe.failure.cache_clear, probe.pairs_int16.cache_clear):
        forget()
    yield
    forget_measurements()


def weight_only_op() -> WeightOnlyOp:
    spec = WeightSpec(dtype="int8", symmetric=True, granularity=PerChannel(0), shape=(4, 8))
    return WeightOnlyOp(stored=encode(torch.randn(4, 8), spec), spec=spec, bias=torch.randn(4))


@EVERYWHERE
@pytest.mark.parametrize(
    ("kernel", "op"),
    [
        (DequantizeKernel(), weight_only_op),
        (ReferenceKernel(), weight_only_op),
        (ReferenceKernel(), lambda: worst_linear(code=1)),
        (FbgemmKernel(), lambda: worst_linear(code=1)),
        (OnednnKernel(), lambda: worst_linear(code=1)),
    ],
    ids=["dequantize", "reference", "reference-int8", "fbgemm", "onednn"],
)
def test_a_kernel_is_verified_alike_everywhere(
    kernel: Kernel, op: Callable[[], Op], around: Callable[[], AbstractContextManager[Any]]
):
    like = op()
    assert verify(kernel, like)
    with around():
        assert verify(kernel, like)


@EVERYWHERE
@pytest.mark.parametrize("kernel", [FbgemmKernel, OnednnKernel])
def test_the_cpu_is_probed_alike_everywhere(kernel: type[Kernel], around: Callable[[], AbstractContextManager[Any]]):
    like = worst_linear(code=1)
    expected = bool(kernel().supports(like, torch.device("cpu"))), kernel().pairs_int16
    probe.failure.cache_clear()
    probe.pairs_int16.cache_clear()
    with around():
        assert (bool(kernel().supports(like, torch.device("cpu"))), kernel().pairs_int16) == expected


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic", "int8-weight-only", "float16"])
@pytest.mark.parametrize("around", ["float64", "bfloat16", "autocast", "inference"])
def test_a_model_that_first_runs_there_runs_well_elsewhere(scheme: str, around: str):
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    x = torch.randn(5, 16)
    module = Quantizer(scheme, kernel="dequantize", validators=()).quantize(model, [x]).model
    with torch.no_grad(), SURROUNDINGS[around]():
        module(x)
    with torch.no_grad():
        y, expected = module(x), model(x)
    assert y.dtype == torch.float32
    assert (y - expected).abs().max() < 0.1 * expected.abs().max()
    assert "reference" not in {name for layer in (module[0], module[2]) for name in layer.kernels_in_use}


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
def test_int8_codes_and_scales_do_not_depend_on_the_default_dtype(default: torch.dtype):
    weight = torch.randn(5, 7)
    codes, scale = quantize_weight(weight)
    with default_dtype(default):
        again: tuple[Tensor, Tensor] = quantize_weight(weight)
    assert torch.equal(again[0], codes)
    assert again[1].dtype == torch.float32
    assert torch.equal(again[1], scale)
