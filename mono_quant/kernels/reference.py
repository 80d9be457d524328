"""The definition of what a quantized layer computes. Every other kernel must equal it; it is exact and slow."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.core.affine import quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.plugin_api.kernel import Kernel, Op, QuantizedOp, Support, WeightOnlyOp

__all__ = ["FLOAT_CONVOLUTIONS", "ReferenceKernel"]

FLOAT_CONVOLUTIONS: dict[str, Callable[..., Tensor]] = {
    "conv1d": functional.conv1d,
    "conv2d": functional.conv2d,
    "conv3d": functional.conv3d,
}


class ReferenceKernel(Kernel):
    """Sums integers in float64, where every partial sum below 2^53 is exact in any order.

    The result is ``float32(sum) · (input_scale · weight_scale) + bias`` in float32. Where only the weight is quantized,
    it is ``float32(x · weightᵀ + bias)`` of the float32 weight that the codes stand for.
    """

    def supports(self, op: Op, device: torch.device) -> Support:
        """Every op that there is, on every device that computes in float64."""
        if type(op) not in {QuantizedOp, WeightOnlyOp}:
            return Support.no(f"it does not know a {type(op).__name__}")
        return Support.no("the device has no float64") if device.type == "mps" else Support()

    def pack(self, op: Op) -> Callable[[Tensor], Tensor]:
        """Nothing is prepared: the codes are widened in each call, so that this kernel needs no memory of its own."""
        return _weight_only(op) if isinstance(op, WeightOnlyOp) else _quantized(op)


def _weight_only(op: WeightOnlyOp) -> Callable[[Tensor], Tensor]:
    bias = None if op.bias is None else op.bias.double()
    return lambda x: functional.linear(x.double(), op.weight().double(), bias).float()


def _quantized(op: QuantizedOp) -> Callable[[Tensor], Tensor]:
    per_channel = (-1, *[1] * len(op.stride))

    def run(x: Tensor) -> Tensor:
        scale, zero_point = op.input_qparams(x)
        codes = quantize(x, scale, zero_point, UINT8).double() - zero_point
        y = integer_sum(codes, op.weight.double(), op).float() * (op.weight_scale * scale).reshape(per_channel)
        return y if op.bias is None else y + op.bias.reshape(per_channel)

    return run


def integer_sum(x: Tensor, weight: Tensor, op: QuantizedOp) -> Tensor:
    """The layer's multiply-adds on numbers of any float dtype, without scales and bias."""
    if op.kind == "linear":
        return functional.linear(x, weight)
    return FLOAT_CONVOLUTIONS[op.kind](x, weight, None, op.stride, op.padding, op.dilation, op.groups)
