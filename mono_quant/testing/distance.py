"""How far a kernel may be from the reference: what its roundings explain, output by output."""

import attrs
import torch
from torch import Tensor

from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api.kernel import Kernel, QuantizedOp, WeightOnlyOp

__all__ = ["ROUNDING", "distance_from_reference", "floats_of", "weight_only_bound"]

ROUNDING = 2**-24
"""Relative error of one float32 operation."""
_EXACT = 2**24
"""The largest sum of which float32 holds every whole number."""


def floats_of(codes: Tensor, op: QuantizedOp) -> Tensor:
    """The float32 input of a static op whose codes these are."""
    scale, zero_point = op.input_qparams(codes)
    return ((codes - zero_point).double() * scale).float()


def distance_from_reference(actual: Tensor, x: Tensor, op: QuantizedOp, *, rounds_sums: bool = False) -> float:
    """The largest difference of a kernel's output from the reference's, in units of what rounding explains.

    The reference without bias rounds three times: the sum to float32, the product of the scales, the product of both.
    The kernel does the same in its own order and adds the bias: seven roundings, each of ``2^-24`` of a number not
    larger than ``|product| + |bias|``, element by element. Where that is zero, the result must be exact.

    A kernel that `rounds_sums` makes float32 of the sum of the codes' products and of the zero point's part, and of
    what they stand for: two roundings more for each of them that is beyond 2^24.
    """
    product_ = ReferenceKernel().pack(attrs.evolve(op, bias=None))(x)
    if actual.shape != product_.shape or actual.dtype != product_.dtype:
        return float("inf")
    bias = torch.zeros(()) if op.bias is None else _by_channel(op.bias.double(), op)
    unit = 7 * ROUNDING * (product_.double().abs() + bias.abs())
    if rounds_sums:
        unit += 2 * ROUNDING * _large_parts(product_.double(), x, op)
    error = (actual.double() - (product_.double() + bias)).abs()
    distance = torch.where(error == 0, 0.0, error / unit)
    return float(torch.where(distance.isnan(), torch.inf, distance).max())


def _large_parts(product: Tensor, x: Tensor, op: QuantizedOp) -> Tensor:
    """What the sum of the codes' products and the zero point's part stand for, added up as far as beyond 2^24.

    The zero point's part is taken to be that of a whole window, also where padding makes it smaller.
    """
    scale, zero_point = op.input_qparams(x)
    step = _by_channel(op.weight_scale.double() * scale, op)
    of_zero_point = _by_channel(zero_point * op.weight.double().flatten(1).sum(dim=1), op)
    parts = (product / step + of_zero_point, of_zero_point)
    return sum((torch.where(part.abs() > _EXACT, part.abs(), 0.0) for part in parts), torch.zeros(())) * step


def _by_channel(values: Tensor, op: QuantizedOp) -> Tensor:
    """One number for each output channel, in a shape that broadcasts against the output."""
    return values.reshape(-1, *[1] * len(op.stride))


def weight_only_bound(kernel: Kernel, op: WeightOnlyOp, x: Tensor) -> Tensor:
    """What rounding to the kernel's precision can cost, for each output ``(N, out)``, float64.

    Five numbers are rounded on the way: input, scale, zero, weight and output; each at most by half an ``eps``. Weights
    that are differences of larger numbers are rounded as those. A float32 sum of n terms adds n roundings of its own.
    """
    terms = op.weight().abs().double()
    if not op.spec.symmetric:
        terms = terms + 2 * terms.amax(dim=1, keepdim=True)
    largest = x.double().abs() @ terms.T + (0 if op.bias is None else op.bias.double().abs())
    return (2.5 * torch.finfo(kernel.precision).eps + (x.shape[1] + 2) * ROUNDING) * largest
