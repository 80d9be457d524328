"""Kernels of linear layers of which only the weight is quantized: right wherever they say yes."""

import pytest
import torch
from torch import Tensor

from mono_quant.core.encoding import encode
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.kernels.bfloat16 import BFloat16Kernel, Int4PackKernel, Int8PackKernel
from mono_quant.kernels.dequantize import DequantizeKernel
from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.saturation import worst_linear
from mono_quant.plugin_api.kernel import Kernel, WeightOnlyOp
from mono_quant.testing.adversarial import WEIGHT_SHAPES, WEIGHT_STORAGE
from mono_quant.testing.distance import weight_only_bound

CPU = torch.device("cpu")
KERNELS: dict[str, Kernel] = {
    "reference": ReferenceKernel(),
    "dequantize": DequantizeKernel(),
    "bfloat16-linear": BFloat16Kernel(),
    "int8pack": Int8PackKernel(),
    "int4pack": Int4PackKernel(),
}
EVERY_KERNEL = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
EVERY_STORAGE = pytest.mark.parametrize("stored", WEIGHT_STORAGE.values(), ids=WEIGHT_STORAGE)


def layer(stored: dict[str, object], out: int, features: int, *, bias: bool = True) -> WeightOnlyOp:
    spec = WeightSpec(shape=(out, features), **stored)
    tensors = encode(torch.randn(out, features), spec)
    return WeightOnlyOp(stored=tensors, spec=spec, bias=torch.randn(out) if bias else None)


def assert_right(kernel: Kernel, op: WeightOnlyOp, x: Tensor) -> None:
    y = kernel.pack(op)(x)
    exact = x.double() @ op.weight().double().T + (0 if op.bias is None else op.bias.double())
    assert (y.dtype, y.shape) == (torch.float32, exact.shape)
    assert bool(((y - exact).abs() <= weight_only_bound(kernel, op, x)).all())


@EVERY_KERNEL
@EVERY_STORAGE
@pytest.mark.parametrize("bias", [True, False])
def test_wherever_it_says_yes_it_gives_the_product_with_the_float_weight(
    kernel: Kernel, stored: dict[str, object], *, bias: bool
):
    for out, features in WEIGHT_SHAPES:
        op = layer(stored, out, features, bias=bias)
        if kernel.supports(op, CPU):
            for rows in (1, 5, 64):
                assert_right(kernel, op, torch.randn(rows, features))


@EVERY_KERNEL
@EVERY_STORAGE
def test_the_strides_of_the_input_do_not_matter(kernel: Kernel, stored: dict[str, object]):
    op = layer(stored, 32, 64)
    if kernel.supports(op, CPU):
        assert_right(kernel, op, torch.randn(64, 6).t())
        assert_right(kernel, op, torch.randn(8, 128)[::2, ::2])
        assert_right(kernel, op, torch.randn(1, 64).expand(4, 64))


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("reference", set(WEIGHT_STORAGE)),
        ("dequantize", set(WEIGHT_STORAGE)),
        ("bfloat16-linear", set(WEIGHT_STORAGE) - {"float16"}),
        ("int8pack", {"int8"}),
        ("int4pack", {"int4", "int4-asymmetric", "int4-wide"}),
    ],
)
def test_each_says_yes_to_the_weights_that_it_is_made_for(name: str, runs: set[str]):
    assert {
        label for label, stored in WEIGHT_STORAGE.items() if KERNELS[name].supports(layer(stored, 64, 128), CPU)
    } == runs


@pytest.mark.parametrize("features", [1, 8, 16, 24, 31, 33, 40, 100])
def test_int8pack_refuses_rows_that_it_would_read_beyond(features: int):
    verdict = KERNELS["int8pack"].supports(layer(WEIGHT_STORAGE["int8"], 16, features), CPU)
    assert verdict.why_not == "it runs symmetric int8 weights per channel, of 32, 64, 96... input features"


@EVERY_KERNEL
def test_a_layer_with_quantized_inputs_is_for_the_reference_only(kernel: Kernel):
    is_reference = isinstance(kernel, ReferenceKernel)
    assert bool(kernel.supports(worst_linear(), CPU)) == is_reference
    if not is_reference:
        with pytest.raises(TypeError, match="expected a WeightOnlyOp, got QuantizedOp"):
            kernel.pack(worst_linear())


@pytest.mark.parametrize("kernel", [FbgemmKernel(), OnednnKernel()], ids=["fbgemm", "onednn"])
def test_the_kernels_of_quantized_inputs_run_no_others(kernel: Kernel):
    op = layer(WEIGHT_STORAGE["int8"], 16, 32)
    assert kernel.supports(op, CPU).why_not == "its input is not quantized"
    with pytest.raises(TypeError, match="expected a QuantizedOp, got WeightOnlyOp"):
        kernel.pack(op)


@pytest.mark.parametrize("granularity", ["per-channel(1)", "per-group(32, 1)"])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_kernels_of_output_channels_refuse_other_channels(dtype: str, granularity: str):
    op = layer({"dtype": dtype, "symmetric": True, "granularity": granularity}, 64, 64)
    assert not Int8PackKernel().supports(op, CPU)
    assert not Int4PackKernel().supports(op, CPU)
