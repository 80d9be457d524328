"""Weights as ``MatMulNBits`` takes them: 4-bit codes from 0 to 15 in blocks of one scale each.

The weight is ``(code - zero_point) · scale``, with zero point 8 where none is given; of two codes in a byte the first
is in the low half. So int4 codes as mono_quant stores them, counted from -8, are taken as they are; those of int2 and
int3 are made 4 bits wide.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
"""

from collections.abc import Mapping

import attrs
import torch
from mono_quant.core.blocks import row_blocks
from mono_quant.core.granularity import PerTensor
from mono_quant.core.packing import pack, unpack
from mono_quant.plugin_api import WeightSpec
from torch import Tensor
from torch.nn import functional

__all__ = ["Blocks", "blocks_of", "why_not"]

_BITS = 4
_SIZES = (16, 32, 64, 128, 256)
"""What the operator knows: see its ``block_size``."""
_OFFSET = 8
"""A code of 0 to 15 is that of mono_quant and this."""


@attrs.frozen(kw_only=True, eq=False)
class Blocks:
    """The operator's inputs, for N channels of K features in B blocks, the last filled up with what does not matter.

    Args:
        features: K.
        size: codes in a block.
        codes: uint8 ``(N, B, size / 2)``.
        scale: float32 ``(N · B,)``.
        zero_point: uint8 ``(N · ceil(B / 2),)``, two in a byte; None where all are 8.
    """

    features: int
    size: int
    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None


def why_not(spec: WeightSpec) -> str:
    """Why a weight cannot be stored in blocks; empty when it can."""
    if not spec.is_scaled or spec.dtype.is_float or spec.dtype.bits > _BITS:
        return "it runs int2, int3 and int4 weights"
    if len(spec.shape) != 2 or spec.axis % 2 or not all(spec.shape):  # noqa: PLR2004 - output and input features
        return "it runs weights of a linear layer, with scales along the output features"
    return "" if _block_size(spec) else "it runs groups of 16, 32, 48... input features"


def blocks_of(stored: Mapping[str, Tensor], spec: WeightSpec) -> Blocks:
    """A weight in blocks; its codes share memory with those that are stored, where none had to be added or widened."""
    size, channels = _block_size(spec), spec.channels
    count = -(-spec.per_channel // size)
    packed = stored[""] if spec.dtype.bits == _BITS else _widened(stored[""], spec)
    zero_point = stored.get("_zero_point")
    return Blocks(
        features=spec.per_channel,
        size=size,
        codes=_padded(packed, count * size // 2).view(channels, count, size // 2),
        scale=_by_block(stored["_scale"], spec, count).reshape(-1).contiguous(),
        zero_point=None if zero_point is None else pack(_by_block(zero_point, spec, count) + _OFFSET, _BITS).view(-1),
    )


def _block_size(spec: WeightSpec) -> int:
    """The largest size of which a group is a multiple; 0 when there is none.

    A channel with one scale has no next group to run into: it takes the smallest block that holds it, or many.
    """
    if spec.groups == 1:
        return next((size for size in _SIZES if size >= spec.per_channel), _SIZES[-1])
    return max((size for size in _SIZES if spec.group_size % size == 0), default=0)


def _widened(packed: Tensor, spec: WeightSpec) -> Tensor:
    """Codes of fewer bits ``(N, W)`` as packed codes of 4."""
    offset = _OFFSET + spec.dtype.qmin
    some = (unpack(packed[rows], spec.per_channel, spec.dtype.bits) for rows in row_blocks(packed))
    return torch.cat([pack(codes + offset, _BITS) for codes in some])


def _padded(packed: Tensor, width: int) -> Tensor:
    missing = width - packed.shape[1]
    return functional.pad(packed, (0, missing)) if missing else packed.contiguous()


def _by_block(per_group: Tensor, spec: WeightSpec, count: int) -> Tensor:
    """A value for each group, ``()``, ``(N,)`` or ``(N, groups)``, as one for each block, ``(N, count)``."""
    if isinstance(spec.granularity, PerTensor):
        return per_group.expand(spec.channels, count)
    by_group = per_group.view(spec.channels, spec.groups)
    blocks_a_group = count if spec.groups == 1 else spec.group_size // _block_size(spec)
    return by_group.repeat_interleave(blocks_a_group, dim=1)[:, :count]
