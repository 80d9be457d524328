"""Quantized layers computed the slow and obvious way: in int64, kernel position by kernel position."""

from itertools import product

import attrs
import torch
from torch import Tensor

from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api.kernel import QuantizedOp

ROUNDING = 2**-24
"""Relative error of one float32 operation."""


def exact_sum(codes: Tensor, op: QuantizedOp) -> Tensor:
    """``Σ (q_x - input_zero_point) · weight`` of int64 codes in the layout of the op's input; int64."""
    x, weight = codes - op.input_zero_point, op.weight.long()
    if op.kind == "linear":
        return (x[:, None, :] * weight[None, :, :]).sum(dim=2)
    axes = range(len(op.stride))
    padded = x.new_zeros(*x.shape[:2], *[x.shape[2 + a] + 2 * op.padding[a] for a in axes])
    padded[(..., *[slice(op.padding[a], op.padding[a] + x.shape[2 + a]) for a in axes])] = x
    kernel = weight.shape[2:]
    size = [(padded.shape[2 + a] - op.dilation[a] * (kernel[a] - 1) - 1) // op.stride[a] + 1 for a in axes]
    result = x.new_zeros(x.shape[0], weight.shape[0], *size)
    out_per_group, in_per_group = weight.shape[0] // op.groups, weight.shape[1]
    for position, group in product(product(*[range(k) for k in kernel]), range(op.groups)):
        start = [position[a] * op.dilation[a] for a in axes]
        seen = padded[
            (..., *[slice(start[a], start[a] + op.stride[a] * (size[a] - 1) + 1, op.stride[a]) for a in axes])
        ]
        inputs = slice(group * in_per_group, (group + 1) * in_per_group)
        outputs = slice(group * out_per_group, (group + 1) * out_per_group)
        result[:, outputs] += torch.einsum(
            "oc,nc...->no...", weight[(outputs, slice(None), *position)], seen[:, inputs]
        )
    return result


def exact_output(codes: Tensor, op: QuantizedOp) -> tuple[Tensor, Tensor]:
    """The output in float64, and its part without the bias."""
    shape = (-1, *[1] * len(op.stride))
    product_ = exact_sum(codes, op).double() * (op.weight_scale.double() * op.input_scale).reshape(shape)
    return (product_ if op.bias is None else product_ + op.bias.double().reshape(shape)), product_


def floats_of(codes: Tensor, op: QuantizedOp) -> Tensor:
    """The float32 input whose codes these are."""
    return ((codes - op.input_zero_point).double() * op.input_scale).float()


def distance_from_reference(actual: Tensor, x: Tensor, op: QuantizedOp) -> float:
    """The largest difference of a kernel's output from the reference's, in units of what rounding explains.

    The reference without bias rounds three times: the sum to float32, the product of the scales, the product of both.
    The kernel does the same in its own order and adds the bias: seven roundings, each of ``2^-24`` of a number not
    larger than ``|product| + |bias|``, element by element. Where that is zero, the result must be exact.
    """
    product_ = ReferenceKernel().pack(attrs.evolve(op, bias=None))(x)
    if actual.shape != product_.shape or actual.dtype != product_.dtype:
        return float("inf")
    bias = torch.zeros(()) if op.bias is None else op.bias.double().reshape(-1, *[1] * len(op.stride))
    unit = 7 * ROUNDING * (product_.double().abs() + bias.abs())
    error = (actual.double() - (product_.double() + bias)).abs()
    distance = torch.where(error == 0, 0.0, error / unit)
    return float(torch.where(distance.isnan(), torch.inf, distance).max())
