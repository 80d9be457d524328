"""Scales as the float16 numbers that blocks hold.

A block with a minimum stores ``m = -z · d`` for a whole number z, that many steps d below zero. Both must be float16,
or the reader would find other weights than ours: d has then few enough bits for the product, 11 less those of z.
"""

from typing import Any

import attrs
import numpy as np

__all__ = ["Halves", "halves_of"]

Array = np.ndarray[Any, Any]

_BITS = 11
"""Significant bits of a float16, the hidden one with them."""
_MOST = 2**-6
"""By how much a scale may be moved, in parts of itself: as much as 5-bit codes may need; others are too small."""
_SMALLEST = np.float32(np.finfo(np.float32).tiny)
"""The scale of weights that are all zero."""


@attrs.frozen(kw_only=True, eq=False)
class Halves:
    """Scales and minimums as float16, for C channels of G groups.

    Args:
        scale: d, float16 ``(C, G)``; 0 for a group of zeros.
        minimum: m, float16 ``(C, G)``; all 0 where there is none.
        change: by how much d differs from the scale that was given, in parts of it, float64 ``(C, G)``.
        fits: whether d and m can stand for the scale, bool ``(C, G)``.
    """

    scale: Array
    minimum: Array
    change: Array
    fits: Array


def halves_of(scale: Array, steps: Array, zeros: Array, *, can_round: bool) -> Halves:
    """The float16 scales and minimums of groups.

    Args:
        scale: float32 ``(C, G)``, finite and positive.
        steps: z, int64 ``(C, G)``: how many steps the minimum lies below zero; 0 in blocks without one.
        zeros: bool ``(C, G)``: whether all weights of a group are zero.
        can_round: whether scales may be moved to the nearest number that fits.
    """
    wanted = np.where(zeros & (scale == _SMALLEST), np.float32(0), scale).astype(np.float64)
    found = _rounded(wanted, steps) if can_round else wanted
    with np.errstate(over="ignore", invalid="ignore"):  # what is infinite does not fit
        d = found.astype(np.float16)
        exact = d.astype(np.float64)
        product = -steps * exact
        m = product.astype(np.float16) + np.float16(0)  # no -0
        change = np.divide(np.abs(exact - wanted), wanted, out=np.zeros_like(wanted), where=wanted > 0)
    fits = np.isfinite(exact) & (m.astype(np.float64) == product) & ((exact > 0) == (wanted > 0))
    return Halves(scale=d, minimum=m, change=change, fits=fits & (change <= (_MOST if can_round else 0)))


def _rounded(scale: Array, steps: Array) -> Array:
    """To the nearest ``k · 2^e`` whose product with the steps is a float16 too: ``k · steps`` has eleven bits at most.

    Powers of two in the steps cost nothing. As many bits as those of the steps leave are always there, often one more.
    """
    size = np.abs(steps)
    odd = np.where(size == 0, 1, size // np.maximum(size & -size, 1))
    bits = _BITS - np.where(odd == 1, 0, np.ceil(np.log2(odd + 1.0)).astype(np.int64))
    mantissa, exponent = np.frexp(scale)
    k, finer = (np.round(np.ldexp(mantissa, bits + more)) for more in (0, 1))
    rounded: Array = np.where(
        finer * odd <= 2**_BITS, np.ldexp(finer, exponent - bits - 1), np.ldexp(k, exponent - bits)
    )
    return rounded
