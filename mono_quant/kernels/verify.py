"""Trust in a kernel: before it is first used for a kind of layer, it must equal the reference on adversarial codes."""

import math
from collections.abc import Iterator

import attrs
import torch
from torch import Tensor

from mono_quant.core.encoding import encode
from mono_quant.core.granularity import PerGroup
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.verify_fused import why_not_fused
from mono_quant.plugin_api.kernel import FusedRun, Kernel, Op, QuantizedOp, Support, WeightOnlyOp

__all__ = ["kind_of", "verify"]

_SCALE, _ZERO_POINT = 0.02, 3

_CHANNELS = 32
_FEATURES = 64
_LARGEST_GROUP = 256
_PAIR_SAFE_CODE = 64
_FULL_CODE = 127
_GROUPS = 5
_MIXED_ROWS = 20
_PLACES = 16
"""Of an output, along each axis; oneDNN, for one, has other code from 8 on."""
_PLACES_OF_A_VOLUME = 5
"""The same where there are three axes, which would take too long with more."""
_VOLUME = 3
_SMALLEST = 4
"""Of an input, along each axis, however far it is padded."""


def verify(kernel: Kernel, like: Op) -> Support:
    """Whether ``kernel`` equals the reference on small layers like ``like``.

    Weights are of one sign at the extremes, and of any kind. The codes are as large as the kernel may be given: beyond
    the pair-safe ones only where it does not pair in int16. The verdict is kept, so it must not depend on the caller's
    surroundings: a default device or dtype, autocast.
    """
    with torch.device("cpu"), torch.autocast("cpu", enabled=False):
        return _verdict(kernel, like)


def _verdict(kernel: Kernel, like: Op) -> Support:
    rounding = _rounding(kernel, like)
    for op, x in _weight_only_cases(like) if isinstance(like, WeightOnlyOp) else _cases(like, kernel):
        expected = ReferenceKernel().pack(op)(x)
        try:
            run = kernel.pack(op)
            actual = run(x)
            problem = why_not_fused(run, x, expected, rounding) if isinstance(run, FusedRun) else ""
        except Exception as failure:  # noqa: BLE001 - a kernel that fails in whatever way is not used
            return Support.no(f"it failed with {type(failure).__name__}: {failure}")
        if expected.shape != actual.shape or actual.dtype != torch.float32:
            return Support.no(f"it gave {actual.dtype}{list(actual.shape)}, not float32{list(expected.shape)}")
        error = float((expected - actual).abs().max() / expected.abs().max())
        if not error <= rounding:
            return Support.no(f"it differs from the reference by {error:.1e} of the largest output")
        if problem:
            return Support.no(problem)
    return Support()


def _rounding(kernel: Kernel, like: Op) -> float:
    """What float rounding explains, as a part of the largest output."""
    eps = torch.finfo(kernel.precision).eps
    if isinstance(like, QuantizedOp):  # of the sum, of the product of the scales, of their product and of the bias
        return 8 * eps
    if kernel.precision == torch.float32:  # and of the terms of a float sum
        return 8 * eps * math.sqrt(2 * _LARGEST_GROUP)
    return 4 * eps


def _cases(like: QuantizedOp, kernel: Kernel) -> Iterator[tuple[QuantizedOp, Tensor]]:
    """Weights of one sign as large as they may be, on extreme codes; and any weights on any codes, for each place."""
    code = _PAIR_SAFE_CODE if kernel.pairs_int16 else _FULL_CODE
    op = _small(like)
    for weight in (torch.full_like(op.weight, code), torch.full_like(op.weight, -code)):
        yield attrs.evolve(op, weight=weight), _extremes(op)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-code, code + 1, op.weight.shape, generator=generator, dtype=torch.int8)
    codes = torch.randint(0, 256, _input_shape(op, _MIXED_ROWS), generator=generator).float()
    yield attrs.evolve(op, weight=weight), (codes - _ZERO_POINT) * _SCALE


def _weight_only_cases(like: WeightOnlyOp) -> Iterator[tuple[WeightOnlyOp, Tensor]]:
    """Layers of a few channels with some groups each, weights that take every code, inputs of one sign and of both.

    Neighbours differ, so that it matters which code stands where. Weights and inputs of both signs grow together, so
    that no sum is small beside its terms: what rounding explains is a part of these.
    """
    group = min(like.spec.group_size, _LARGEST_GROUP)
    features = group * max(2, _FEATURES // group)
    is_grouped = isinstance(like.spec.granularity, PerGroup)
    spec = attrs.evolve(
        like.spec,
        shape=(_CHANNELS, features),
        granularity=PerGroup(group) if is_grouped else like.spec.granularity,
    )
    order = torch.randperm(features, generator=torch.Generator().manual_seed(0))
    weight = _ramp(0.5, 1, _CHANNELS)[:, None] * _ramp(-0.5, 1, features)[order]
    weight[::2] *= -1
    weight[:, group:] /= 2
    bias = None if like.bias is None else _ramp(-1, 1, _CHANNELS)
    op = WeightOnlyOp(stored=encode(weight, spec), spec=spec, bias=bias)
    for low, high, rows in ((1, 1, 3), (-1, -1, 1), (-0.5, 1, 2)):
        yield op, _ramp(low, high, features)[order].repeat(rows, 1)


def _small(like: QuantizedOp) -> QuantizedOp:
    """A layer of the same kind, kernel size, stride, padding, dilation and grouping, with few channels.

    How many channels there are decides which code of a kernel runs, so those of large layers leave the same rest.
    """
    per_group, per_output = _channels_like(like)
    groups = 1 if like.groups == 1 else _GROUPS
    out = groups if _is_depthwise(like) else groups * per_output
    return QuantizedOp(
        kind=like.kind,
        weight=torch.zeros((out, per_group, *like.weight.shape[2:]), dtype=torch.int8),
        weight_scale=_ramp(0.001, 0.002, out),
        bias=_ramp(-1, 1, out),
        input_scale=None if like.input_scale is None else _SCALE,
        input_zero_point=None if like.input_scale is None else _ZERO_POINT,
        stride=like.stride,
        padding=like.padding,
        dilation=like.dilation,
        groups=groups,
    )


def _channels_like(op: QuantizedOp) -> tuple[int, int]:
    """Input channels of a group, and output channels of one, of the small layer."""
    return _with_same_rest(op.weight.shape[1], 64), _with_same_rest(op.weight.shape[0] // op.groups, 16)


def _with_same_rest(count: int, step: int) -> int:
    """The number itself, or one beyond ``step`` and at most twice that, which leaves the same rest.

    >>> [_with_same_rest(count, 64) for count in (3, 64, 65, 100, 512)]
    [3, 64, 65, 100, 128]
    """
    return count if count <= step else step + (count % step or step)


def _extremes(op: QuantizedOp) -> Tensor:
    """Three float inputs: every code at the lower end, every code at the upper end, and the two alternating."""
    codes = torch.zeros(_input_shape(op, 3), dtype=torch.float32)
    codes[1] = 255
    codes[2].view(-1)[::2] = 255
    return (codes - _ZERO_POINT) * _SCALE


def _input_shape(op: QuantizedOp, rows: int) -> tuple[int, ...]:
    """Of so many rows, or of an input that gives so many places along each axis that kernels take them in blocks."""
    places = _PLACES if len(op.stride) < _VOLUME else _PLACES_OF_A_VOLUME
    axes = zip(op.dilation, op.weight.shape[2:], op.stride, op.padding, strict=True)
    spatial = [
        max(_SMALLEST, dilation * (size - 1) + 1 + stride * (places - 1) - 2 * padding)
        for dilation, size, stride, padding in axes
    ]
    return (min(rows, 3) if spatial else rows, op.weight.shape[1] * op.groups, *spatial)


def _ramp(low: float, high: float, count: int) -> Tensor:
    return torch.linspace(low, high, count, dtype=torch.float32)


def kind_of(op: Op) -> tuple[object, ...]:
    """What `verify` can tell apart: ops that are alike in it need one verification."""
    if isinstance(op, WeightOnlyOp):
        return op.kind, op.spec.dtype, op.spec.symmetric, op.spec.granularity, op.bias is None
    grouping = (op.groups > 1, op.groups > 1 and op.weight.shape[1] == 1, _is_depthwise(op))
    is_dynamic = op.input_scale is None
    geometry = tuple(op.weight.shape[2:]), op.stride, op.padding, op.dilation
    return op.kind, is_dynamic, *geometry, *grouping, *_channels_like(op)


def _is_depthwise(op: QuantizedOp) -> bool:
    """Whether every channel has its own single filter, for which kernels have code of their own."""
    return op.groups > 1 and op.weight.shape[1] == 1 and op.weight.shape[0] == op.groups
