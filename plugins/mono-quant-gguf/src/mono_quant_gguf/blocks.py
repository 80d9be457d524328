"""From stored weights to ggml's blocks, and back.

For C channels of K weights in B = K / 32 blocks, where each of G groups is made of whole blocks. A block's bytes are

====  ============================================================
Q8_0  d, then 32 signed codes
Q4_0  d, then 16 bytes: code i in the low half of byte i, code i + 16 in the high half
Q4_1  d, m, then these 16 bytes
Q5_0  d, then 4 bytes whose bit i is the highest bit of code i, then 16 bytes of the lower four bits
Q5_1  d, m, then these 20 bytes
====  ============================================================

with d and m as float16, all little-endian. (https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h)
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mono_quant.core.packing import pack, unpack
from mono_quant.errors import ArtifactError
from mono_quant.plugin_api import WeightSpec
from torch import Tensor

from mono_quant_gguf.half import Halves, halves_of
from mono_quant_gguf.kinds import BLOCK, BlockKind

__all__ = ["Array", "decode_blocks", "encode_blocks", "halves"]

Array = np.ndarray[Any, Any]

_HALF = BLOCK // 2
_SMALLEST = torch.finfo(torch.float32).tiny


def halves(stored: Mapping[str, Tensor], spec: WeightSpec, kind: BlockKind, *, can_round: bool) -> Halves:
    """The float16 scales and minimums of a weight's groups.

    Args:
        stored: its tensors by suffix.
        spec: how they are stored.
        kind: the blocks that hold it.
        can_round: whether scales may be moved.
    """
    zero_point = _by_group(stored["_zero_point"], spec).long() if kind.has_minimum else None
    scale = _by_group(stored["_scale"], spec)
    steps = torch.zeros_like(scale, dtype=torch.int64) if zero_point is None else zero_point + kind.offset
    grouped = _grouped(_codes(stored[""], spec), spec)
    zeros = (grouped == (0 if zero_point is None else zero_point[:, :, None])).all(dim=2)
    return halves_of(scale.numpy(), steps.numpy(), zeros.numpy(), can_round=can_round)


def encode_blocks(codes: Tensor, spec: WeightSpec, kind: BlockKind, scales: Halves) -> Array:
    """The blocks of a weight, uint8 ``(C, bytes)``.

    Args:
        codes: as they are stored.
        spec: how they are stored.
        kind: the blocks that hold it.
        scales: of its groups, all of which fit.
    """
    blocks = spec.per_channel // BLOCK
    parts = [_half_bytes(scales.scale, spec)]
    if kind.has_minimum:
        parts.append(_half_bytes(scales.minimum, spec))
    signed = _codes(codes, spec).numpy().reshape(spec.channels, blocks, BLOCK)
    if kind.bits == 8:  # noqa: PLR2004 - Q8_0
        parts.append(signed.view(np.uint8))
    else:
        unsigned = (signed + kind.offset).astype(np.uint8)
        if kind.bits > 4:  # noqa: PLR2004 - what has no place in half a byte
            parts.append(np.packbits(unsigned >> 4, axis=-1, bitorder="little"))
        low = unsigned & 15
        parts.append(low[..., :_HALF] | low[..., _HALF:] << 4)
    return np.concatenate(parts, axis=-1).reshape(spec.channels, -1)


def decode_blocks(raw: Array, spec: WeightSpec, kind: BlockKind) -> dict[str, Tensor]:
    """The stored tensors of a weight by suffix; the other way round.

    Raises:
        ArtifactError: when the blocks hold something else than a weight that is stored so.
    """
    if raw.shape[0] != spec.channels or raw.size // kind.type_size * BLOCK != math.prod(spec.shape):
        raise ArtifactError(f"it has the bytes {list(raw.shape)}, and the manifest says {list(spec.shape)}")
    blocks = raw.reshape(spec.channels, spec.per_channel // BLOCK, kind.type_size)
    scale = _of_blocks(blocks[..., 0:2], spec)
    at = 2
    minimum = None
    if kind.has_minimum:
        minimum, at = _of_blocks(blocks[..., 2:4], spec), 4
    signed = torch.from_numpy(_signed(blocks[..., at:], kind).reshape(spec.channels, spec.per_channel))
    steps = None if minimum is None else _steps(scale, minimum, signed, spec, kind)
    zero_point = None if steps is None else steps - kind.offset
    is_zero = scale == 0
    if is_zero.any():
        grouped = _grouped(signed, spec)
        centre = torch.zeros_like(scale, dtype=torch.int64) if zero_point is None else zero_point
        if (grouped != centre[:, :, None])[is_zero].any():
            raise ArtifactError("a block has the scale 0 and weights that are not")
        scale = scale.masked_fill(is_zero, _SMALLEST)
    if not (scale.isfinite() & (scale > 0)).all():
        raise ArtifactError("a scale is not finite and positive")
    codes = pack(signed + kind.offset, kind.bits) if spec.dtype.is_packed else signed
    stored = {"": codes, "_scale": _ungrouped(scale, spec)}
    if zero_point is not None:
        stored["_zero_point"] = _ungrouped(zero_point, spec).to(torch.int8)
    return {suffix: stored[suffix].to(dtype).reshape(shape) for suffix, (dtype, shape) in spec.layout.items()}


def _codes(codes: Tensor, spec: WeightSpec) -> Tensor:
    """Signed codes, int8 ``(C, K)``, contiguous."""
    if spec.dtype.is_packed:
        return unpack(codes, spec.per_channel, spec.dtype.bits).to(torch.int8).sub_(-spec.dtype.qmin)
    return codes.reshape(spec.channels, spec.per_channel).contiguous()


def _signed(raw: Array, kind: BlockKind) -> Array:
    """The other way round: from the bytes of codes ``(C, B, bytes)`` to int8 ``(C, B, 32)``."""
    if kind.bits == 8:  # noqa: PLR2004 - Q8_0
        return raw.astype(np.uint8).view(np.int8)
    high, nibbles = raw[..., :-_HALF], raw[..., -_HALF:]
    unsigned = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1)
    if high.size:
        unsigned |= np.unpackbits(high, axis=-1, bitorder="little") << 4
    return unsigned.astype(np.int8) - np.int8(kind.offset)


def _steps(scale: Tensor, minimum: Tensor, signed: Tensor, spec: WeightSpec, kind: BlockKind) -> Tensor:
    """How many steps the minimum of each group lies below zero; where there is no step, as its codes say."""
    exact = (-minimum.double() / scale.double()).round()
    of_zeros = _grouped(signed, spec)[:, :, 0].double() + kind.offset
    steps = torch.where(scale == 0, of_zeros, exact)
    low, high = -128 + kind.offset, 127 + kind.offset
    fits = (steps >= low) & (steps <= high) & (steps * scale.double() == -minimum.double())
    if not fits.all():
        raise ArtifactError("a block's minimum is no whole number of its steps")
    return steps.long()


def _by_group(values: Tensor, spec: WeightSpec) -> Tensor:
    """Values per tensor, channel or group as ``(C, G)``."""
    if values.ndim == 0:
        return values.reshape(1, 1).expand(spec.channels, 1)
    return values.reshape(spec.channels, -1)


def _ungrouped(values: Tensor, spec: WeightSpec) -> Tensor:
    """The other way round.

    Raises:
        ArtifactError: when channels differ that share one value.
    """
    if spec.layout["_scale"][1] == ():
        if (values != values[0, 0]).any():
            raise ArtifactError("the scales of its channels differ, and the manifest says that it has one")
        return values[0, 0]
    return values


def _grouped(codes_CK: Tensor, spec: WeightSpec) -> Tensor:  # noqa: N803 - the shape
    """``(C, K) → (C, G, E)``, the last group filled up with its own last code."""
    missing = -spec.per_channel % spec.group_size
    if missing:
        codes_CK = torch.cat([codes_CK, codes_CK[:, -1:].expand(-1, missing)], dim=1)  # noqa: N806
    return codes_CK.reshape(spec.channels, spec.groups, spec.group_size)


def _half_bytes(values: Array, spec: WeightSpec) -> Array:
    """float16 ``(C, G)`` as the bytes of each block, uint8 ``(C, B, 2)``."""
    blocks = spec.per_channel // BLOCK
    repeated = np.repeat(values, -(-spec.group_size // BLOCK), axis=1)[:, :blocks]
    return np.ascontiguousarray(repeated, dtype="<f2").view(np.uint8).reshape(spec.channels, blocks, 2)


def _of_blocks(raw: Array, spec: WeightSpec) -> Tensor:
    """The other way round: float32 ``(C, G)``.

    Raises:
        ArtifactError: when the blocks of a group differ.
    """
    by_block = np.ascontiguousarray(raw).view("<f2").astype(np.float32)[..., 0]
    per_group = -(-spec.group_size // BLOCK)
    by_group = by_block[:, ::per_group]
    if not np.array_equal(np.repeat(by_group, per_group, axis=1)[:, : by_block.shape[1]], by_block):
        raise ArtifactError("the blocks of a group have different scales")
    return torch.from_numpy(np.ascontiguousarray(by_group))
