"""Affine quantization in exact fractions, number by number: slow and obvious."""

from fractions import Fraction

from mono_quant.core.qtypes import QType

__all__ = ["HALF_ULP", "exact_code", "exact_scale", "exact_value"]

HALF_ULP = Fraction(1, 2**24)
"""What one rounding to float32 changes at most, relative to a normal number."""


def exact_scale(low: float, high: float, qtype: QType, *, symmetric: bool) -> Fraction:
    """The step of the codes for a range and zero, without a floor."""
    ends = [Fraction(min(low, 0.0)), Fraction(max(high, 0.0))]
    if symmetric:
        return max(-ends[0], ends[1]) / 127
    return (ends[1] - ends[0]) / (qtype.qmax - qtype.qmin)


def exact_code(x: float, scale: float, zero_point: int, qtype: QType) -> int:
    """The code of a number; Python rounds fractions half to even."""
    return min(max(round(Fraction(x) / Fraction(scale)) + zero_point, qtype.qmin), qtype.qmax)


def exact_value(code: int, scale: float, zero_point: int) -> Fraction:
    """The number that a code stands for."""
    return (code - zero_point) * Fraction(scale)
