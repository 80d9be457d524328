"""Symmetric int8 weights, one scale for each output channel, safe on every CPU.

Without VNNI the fast kernels add two products of an unsigned 8-bit activation and a signed 8-bit weight in a signed
16-bit number, which clips silently. Weights obey here a rule that makes clipping impossible, whichever two weights a
kernel pairs: in each row the two largest positive codes sum to at most 128 and the two most negative to at least -128,
since ``255 · 128 = 32640 < 32768``. It costs at most a factor of 2 in the row's scale, and nothing where one weight
stands out; see docs/explanation/saturation.md.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from mono_quant.core.affine import SMALLEST_SCALE
from mono_quant.core.blocks import row_blocks, scratch_blocks

__all__ = ["MAX_PAIR_SUM", "Saturation", "is_pair_safe", "pair_safe_rows", "quantize_weight"]

MAX_PAIR_SUM = 128
_QMAX = 127
_PARTS = 32
_SHALLOWEST = 16

Saturation = Literal["pair-safe", "full-range"]


def quantize_weight(weight: Tensor, saturation: Saturation = "pair-safe") -> tuple[Tensor, Tensor]:
    """Codes and scales of a weight.

    Args:
        weight: ``(out, ...)``, any float dtype, finite.
        saturation: ``"pair-safe"`` follows the rule above, ``"full-range"`` uses all of ``[-127, 127]``.

    Returns:
        ``(codes, scale)``: int8 of the weight's shape within ``[-127, 127]``, float32 ``(out,)``.
    """
    rows = weight.detach().reshape(weight.shape[0], -1)
    scale = _scale(rows, saturation)
    codes = torch.empty(rows.shape, dtype=torch.int8, device=rows.device)
    for block, scratch in scratch_blocks(rows):
        codes[block] = _codes(rows[block].float(), scale[block], scratch)
    return codes.reshape(weight.shape), scale


def is_pair_safe(codes: Tensor) -> bool:
    """Whether no two int8 codes ``(out, ...)`` of one row can overflow int16 when paired with uint8 activations."""
    return all(bool(safe.all()) for safe in _safe(codes))


def pair_safe_rows(codes: Tensor) -> Tensor:
    """The same for each row by itself: bool ``(out,)``."""
    return torch.cat([*_safe(codes)])


def _safe(codes: Tensor) -> Iterator[Tensor]:
    """Some rows after others."""
    rows = codes.reshape(codes.shape[0], -1)
    return (_pair_sum(_ends(scratch.copy_(rows[block]))) <= MAX_PAIR_SUM for block, scratch in scratch_blocks(rows))


def _scale(rows: Tensor, saturation: Saturation) -> Tensor:
    """The scales ``(out,)`` of rows."""
    blocks = (rows[block].float() for block in row_blocks(rows))
    if saturation == "pair-safe":
        return _pair_safe_scale(torch.cat([_ends(block) for block in blocks]))
    largest = torch.cat([torch.maximum(block.amax(dim=1), -block.amin(dim=1)) for block in blocks])
    return (largest / _QMAX).clamp(min=SMALLEST_SCALE)


def _pair_safe_scale(ends: Tensor) -> Tensor:
    """The scale ``(out,)`` of rows by their `_ends`, whose codes are the ends of the codes: rounding keeps order."""
    scale = ends.abs().amax(dim=1) / _QMAX
    scale = torch.maximum(scale, (_pair_sum(ends) / MAX_PAIR_SUM).float()).clamp(min=SMALLEST_SCALE)
    # Exact arithmetic would be done here; float32 may round two codes up where their sum is exactly at the bound.
    while (unsafe := _pair_sum(_codes(ends, scale)) > MAX_PAIR_SUM).any():
        scale = torch.where(unsafe, scale * (1 + 2**-20), scale)
    return scale


def _codes(rows: Tensor, scale: Tensor, out: Tensor | None = None) -> Tensor:
    """Codes as float32 ``(out, in)``."""
    return torch.div(rows, scale[:, None], out=out).round_().clamp_(-_QMAX, _QMAX)


def _pair_sum(ends: Tensor) -> Tensor:
    """The larger of (two most positive) and -(two most negative) of each row, summed → ``(out,)``.

    In float64, where the sum of two finite float32 numbers is finite.
    """
    pair = ends.shape[1] // 2
    positive = ends[:, :pair].double().clamp(min=0).sum(dim=1)
    negative = ends[:, pair:].double().clamp(max=0).sum(dim=1)
    return torch.maximum(positive, -negative)


def _ends(rows: Tensor) -> Tensor:
    """The two largest of each row ``(out, in)``, then the two smallest → ``(out, 4)``; ``(out, 2)`` of one column."""
    return torch.cat([_two(rows, largest=True), _two(rows, largest=False)], dim=1)


def _two(rows: Tensor, *, largest: bool) -> Tensor:
    """The two largest or smallest of each row → ``(out, 2)``.

    A long row is divided in parts, whose own ends torch finds at the speed of memory. The two are in the two parts with
    the outermost ends: another part has nothing beyond those.
    """
    depth = rows.shape[1] // _PARTS
    if depth >= _SHALLOWEST:
        parts = rows[:, : depth * _PARTS].view(rows.shape[0], depth, _PARTS)
        outermost = parts.amax(dim=1) if largest else parts.amin(dim=1)
        where = outermost.topk(2, dim=1, largest=largest).indices[:, None].expand(-1, depth, -1)
        rows = torch.cat([parts.gather(2, where).flatten(1), rows[:, depth * _PARTS :]], dim=1)
    return rows.topk(min(2, rows.shape[1]), dim=1, largest=largest).values
