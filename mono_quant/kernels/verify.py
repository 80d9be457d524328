"""Trust in a kernel: before it is first used for a kind of layer, it must equal the reference on adversarial codes."""

import torch
from torch import Tensor

from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api.kernel import Kernel, QuantizedOp, Support

__all__ = ["kind_of", "verify"]

_ROUNDING = 8 * torch.finfo(torch.float32).eps
"""A few float32 roundings: of the sum, of the product of the scales, of their product and of the bias."""

_SCALE, _ZERO_POINT = 0.02, 3

_PAIR_SAFE_CODE = 64
_FULL_CODE = 127


def verify(kernel: Kernel, like: QuantizedOp) -> Support:
    """Whether ``kernel`` equals the reference on small layers like ``like``: weights of one sign at the extremes.

    The codes are as large as the kernel may be given: beyond the pair-safe ones only where it does not pair in int16.
    """
    code = _PAIR_SAFE_CODE if kernel.pairs_int16 else _FULL_CODE
    for weight_code in (code, -code):
        op = _small(like, weight_code)
        expected = ReferenceKernel().pack(op)(_extremes(op))
        try:
            actual = kernel.pack(op)(_extremes(op))
        except Exception as failure:  # noqa: BLE001 - a kernel that fails in whatever way is not used
            return Support.no(f"it failed with {type(failure).__name__}: {failure}")
        if expected.shape != actual.shape or actual.dtype != torch.float32:
            return Support.no(f"it gave {actual.dtype}{list(actual.shape)}, not float32{list(expected.shape)}")
        error = float((expected - actual).abs().max() / expected.abs().max())
        if not error <= _ROUNDING:
            return Support.no(f"it differs from the reference by {error:.1e} of the largest output")
    return Support()


def _small(like: QuantizedOp, code: int) -> QuantizedOp:
    """A layer of the same kind, kernel size, stride, padding, dilation and grouping, with few and odd channels."""
    groups = 1 if like.groups == 1 else 5
    out = groups if _is_depthwise(like) else groups * 3
    per_group = 1 if like.groups > 1 and like.weight.shape[1] == 1 else 7
    return QuantizedOp(
        kind=like.kind,
        weight=torch.full((out, per_group, *like.weight.shape[2:]), code, dtype=torch.int8),
        weight_scale=torch.linspace(0.001, 0.002, out),
        bias=torch.linspace(-1, 1, out),
        input_scale=None if like.input_scale is None else _SCALE,
        input_zero_point=None if like.input_scale is None else _ZERO_POINT,
        stride=like.stride,
        padding=like.padding,
        dilation=like.dilation,
        groups=groups,
    )


def _extremes(op: QuantizedOp) -> Tensor:
    """Three float inputs: every code at the lower end, every code at the upper end, and the two alternating."""
    spatial = [dilation * (size - 1) + 4 for dilation, size in zip(op.dilation, op.weight.shape[2:], strict=True)]
    codes = torch.zeros(3, op.weight.shape[1] * op.groups, *spatial)
    codes[1] = 255
    codes[2].view(-1)[::2] = 255
    return (codes - _ZERO_POINT) * _SCALE


def kind_of(op: QuantizedOp) -> tuple[object, ...]:
    """What `verify` can tell apart: ops that are alike in it need one verification."""
    grouping = (op.groups > 1, op.groups > 1 and op.weight.shape[1] == 1, _is_depthwise(op))
    is_dynamic = op.input_scale is None
    return op.kind, is_dynamic, tuple(op.weight.shape[2:]), op.stride, op.padding, op.dilation, *grouping


def _is_depthwise(op: QuantizedOp) -> bool:
    """Whether every channel has its own single filter, for which kernels have code of their own."""
    return op.groups > 1 and op.weight.shape[1] == 1 and op.weight.shape[0] == op.groups
