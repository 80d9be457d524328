"""The bins of one group that hold some data, and the error of quantizing what is in them."""

from functools import cache

import attrs
import torch
from torch import Tensor

from mono_quant.core.qtypes import QType

__all__ = ["Bins", "candidates", "mean_errors"]

_STEPS_AN_OCTAVE = 32
_POINT = 1e-6
"""A bin narrower than this part of a step counts as one point."""


@attrs.frozen(eq=False)
class Bins:
    """How many values are where, taken to be spread evenly within each bin. Zeros are not among them.

    Args:
        counts: ``(2 B,)``, in the order of the values, B on each side of zero.
        edges: ``(2 B + 1,)``, float64: bin i lies between edge i and edge i + 1. Those beyond the data are at its ends.
        unit: what the edges are multiples of: the largest magnitude in the data.
    """

    counts: Tensor
    edges: Tensor
    unit: float

    @property
    def zero(self) -> int:
        """The index of the edge that lies at zero, or nearest to it in the data."""
        return len(self.counts) // 2


def candidates(bins: Bins) -> Tensor:
    """Distances from zero, in bins, at which a range may end: the whole first, each less by 1/32 octave or a bin.

    ``(K,)`` int64. The best of them is within 1.1 % of the best bin. There the error is level: what is lost is in its
    fourth digit.
    """
    return torch.tensor(_distances(bins.zero))


@cache
def _distances(count: int) -> tuple[int, ...]:
    steps = range(_STEPS_AN_OCTAVE * count.bit_length())
    distances = {min(round(2 ** (step / _STEPS_AN_OCTAVE)), count) for step in steps}
    return tuple(sorted(distances | {count}, reverse=True))


def mean_errors(bins: Bins, scale: Tensor, zero_point: Tensor, qtype: QType, *, norm: float) -> Tensor:
    """``Σ |x - x̂|^norm`` over all values, for C scales and zero points: ``(C,)``, in units of ``bins.unit``.

    The integral over each bin, exactly, rounding and clipping alike: with x̂ = k s for the nearest k that has a code,

        F(x) = ∫ |x - x̂|^p dx = k · 2 (s/2)^(p+1) / (p+1) + sign(x - k s) |x - k s|^(p+1) / (p+1)

    is continuous, and the mean over a bin [a, b] is ``(F(b) - F(a)) / (b - a)``.
    """
    held = bins.counts > 0
    a, b = bins.edges[:-1][held], bins.edges[1:][held]
    s = (scale.double() / bins.unit)[:, None]
    lowest, highest = ((code - zero_point.double())[:, None] for code in (qtype.qmin, qtype.qmax))

    def code_of(x: Tensor) -> Tensor:
        return (x / s).round().clamp(lowest, highest)

    def integral(x: Tensor) -> Tensor:
        code = code_of(x)
        rest = x - code * s
        return (code * 2 * (s / 2) ** (norm + 1) + rest.sign() * rest.abs() ** (norm + 1)) / (norm + 1)

    middle, width = (a + b) / 2, b - a
    at_a_point = (middle - code_of(middle) * s).abs() ** norm
    spread = (integral(b) - integral(a)) / width.clamp(min=torch.finfo(torch.float64).tiny)
    mean = torch.where(width > _POINT * s, spread.clamp(min=0), at_a_point)
    return mean @ bins.counts[held].double()
