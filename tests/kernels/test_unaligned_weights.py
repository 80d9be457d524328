"""Weights that begin anywhere in memory, as tensors of a mapped file do: kernels neither crash nor give other bits."""

import attrs
import pytest
import torch
from on_this_cpu import CPU, KERNELS
from torch import Tensor

from mono_quant.core.encoding import encode
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.kernels.bfloat16 import BFloat16Kernel, Int4PackKernel, Int8PackKernel
from mono_quant.kernels.dequantize import DequantizeKernel
from mono_quant.plugin_api.kernel import Kernel, WeightOnlyOp
from mono_quant.testing import adversarial

ALIGNED = 64
OFFSETS = pytest.mark.parametrize("offset", [4, 8, 16, 24, 40, 60])
"""In bytes."""
WEIGHT_ONLY: dict[str, Kernel] = {
    "dequantize": DequantizeKernel(),
    "bfloat16-linear": BFloat16Kernel(),
    "int8pack": Int8PackKernel(),
    "int4pack": Int4PackKernel(),
}


def moved(tensor: Tensor, offset: int) -> Tensor:
    """The same numbers, that many bytes after a multiple of 64."""
    memory = torch.zeros(tensor.nbytes + 2 * ALIGNED, dtype=torch.uint8)
    begin = -memory.data_ptr() % ALIGNED + offset
    place = memory[begin : begin + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
    assert place.data_ptr() % ALIGNED == offset % ALIGNED
    return place.copy_(tensor)


@pytest.mark.parametrize("kernel", WEIGHT_ONLY.values(), ids=WEIGHT_ONLY)
@OFFSETS
def test_of_layers_with_float_inputs(kernel: Kernel, offset: int):
    for dtype, granularity in (("int8", "per-channel(0)"), ("int4", "per-group(32)"), ("bfloat16", "per-tensor")):
        spec = WeightSpec(dtype=dtype, symmetric=True, granularity=granularity, shape=(48, 96))
        op = WeightOnlyOp(stored=encode(torch.randn(48, 96), spec), spec=spec, bias=torch.randn(48))
        if kernel.supports(op, CPU):
            shifts = {suffix: moved(tensor, offset) for suffix, tensor in op.stored.items()}
            unaligned = attrs.evolve(op, stored=shifts, bias=moved(op.bias, 4))
            for rows in (1, 5):
                x = torch.randn(rows, 96)
                assert torch.equal(kernel.pack(unaligned)(x), kernel.pack(op)(x))


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@OFFSETS
def test_of_layers_with_quantized_inputs(kernel: Kernel, offset: int):
    for geometry in (adversarial.GEOMETRIES[4], adversarial.GEOMETRIES[9], *adversarial.GEOMETRIES[18:20]):
        op = next(adversarial.ops(geometry, adversarial.weights(geometry)["random"]))
        if kernel.supports(op, CPU):
            unaligned = attrs.evolve(op, weight=moved(op.weight, offset), weight_scale=moved(op.weight_scale, offset))
            x = torch.randn(geometry.input_shape)
            assert torch.equal(kernel.pack(unaligned)(x), kernel.pack(op)(x))
