"""Quantized layers computed the slow and obvious way: in int64, kernel position by kernel position."""

from itertools import product

import torch
from torch import Tensor

from mono_quant.plugin_api.kernel import QuantizedOp


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
