"""Symmetric int8 weights, one scale for each output channel, safe on every CPU.

Without VNNI the fast kernels add two products of an unsigned 8-bit activation and a signed 8-bit weight in a signed
16-bit number, which clips silently. Weights obey here a rule that makes clipping impossible, whichever two weights a
kernel pairs: in each row the two largest positive codes sum to at most 128 and the two most negative to at least -128,
since ``255 · 128 = 32640 < 32768``. It costs at most a factor of 2 in the row's scale, and nothing where one weight
stands out; see docs/explanation/saturation.md.
"""

from typing import Literal

import torch
from torch import Tensor

from mono_quant.core.affine import SMALLEST_SCALE
from mono_quant.core.blocks import row_blocks

__all__ = ["MAX_PAIR_SUM", "Saturation", "is_pair_safe", "quantize_weight"]

MAX_PAIR_SUM = 128
_QMAX = 127

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
    codes = torch.empty(rows.shape, dtype=torch.int8, device=rows.device)
    scale = torch.empty(rows.shape[0], dtype=torch.float32, device=rows.device)
    for block in row_blocks(rows):
        codes[block], scale[block] = _quantize_rows(rows[block].float(), saturation)
    return codes.reshape(weight.shape), scale


def is_pair_safe(codes: Tensor) -> bool:
    """Whether no two int8 codes ``(out, ...)`` of one row can overflow int16 when paired with uint8 activations."""
    rows = codes.reshape(codes.shape[0], -1)
    sums = (_largest_pair_sum(rows[block].to(torch.int16)) for block in row_blocks(rows))
    return all(bool((sum_ <= MAX_PAIR_SUM).all()) for sum_ in sums)


def _quantize_rows(rows: Tensor, saturation: Saturation) -> tuple[Tensor, Tensor]:
    """Codes as float32 ``(out, in)`` and scales ``(out,)`` of float32 rows."""
    scale = rows.abs().amax(dim=1) / _QMAX
    if saturation == "pair-safe":
        scale = torch.maximum(scale, (_largest_pair_sum(rows) / MAX_PAIR_SUM).float())
    scale = scale.clamp(min=SMALLEST_SCALE)
    codes = _codes(rows, scale)
    if saturation == "pair-safe":
        # Exact arithmetic would be done here; float32 may round two codes up where their sum is exactly at the bound.
        while (unsafe := _largest_pair_sum(codes) > MAX_PAIR_SUM).any():
            scale = torch.where(unsafe, scale * (1 + 2**-20), scale)
            codes = _codes(rows, scale)
    return codes, scale


def _codes(rows: Tensor, scale: Tensor) -> Tensor:
    """Codes as float32 ``(out, in)``."""
    return rows.div(scale[:, None]).round_().clamp_(-_QMAX, _QMAX)


def _largest_pair_sum(rows: Tensor) -> Tensor:
    """For each row ``(out, in)``: the larger of (two most positive) and -(two most negative), summed → ``(out,)``.

    In float64, where the sum of two finite float32 numbers is finite.
    """
    pair = min(2, rows.shape[1])
    positive = rows.topk(pair, dim=1).values.double().clamp(min=0).sum(dim=1)
    negative = rows.topk(pair, dim=1, largest=False).values.double().clamp(max=0).sum(dim=1)
    return torch.maximum(positive, -negative)
