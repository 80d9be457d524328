"""Errors of quantizing what lies in bins, bin by bin and step by step: slow and obvious."""

import math
from itertools import pairwise

import torch

from mono_quant.core.observers.bins import Bins
from mono_quant.core.qtypes import QType

__all__ = ["bins_of", "slow_error"]


def bins_of(counts: list[int], *, low: float = -1.0, high: float = 1.0) -> Bins:
    """Bins of equal width on both sides of zero, cut off where the data ends."""
    half = len(counts) // 2
    edges = (torch.arange(-half, half + 1, dtype=torch.float64) / half).clamp(low, high)
    return Bins(counts=torch.tensor(counts), edges=edges, unit=1.0)


def slow_error(bins: Bins, scale: float, zero_point: int, qtype: QType, norm: float) -> float:
    """``Σ |x - x̂|^norm``: each bin is cut where another code is nearer, and each piece integrated."""
    lowest, highest = qtype.qmin - zero_point, qtype.qmax - zero_point
    halves = [(code + 0.5) * scale for code in range(lowest, highest)]
    total = 0.0
    for count, a, b in zip(bins.counts.tolist(), bins.edges[:-1].tolist(), bins.edges[1:].tolist(), strict=True):
        if a == b:
            code = min(max(round(a / scale), lowest), highest)
            total += count * abs(a - code * scale) ** norm
        cuts = [a, *(cut for cut in halves if a < cut < b), b]
        for left, right in pairwise(cuts):
            code = min(max(round((left + right) / 2 / scale), lowest), highest)
            if left < right and count:
                area = _power(right - code * scale, norm) - _power(left - code * scale, norm)
                total += count * area / (b - a)
    return total


def _power(x: float, norm: float) -> float:
    """An integral of ``|x|^norm``."""
    return math.copysign(abs(x) ** (norm + 1) / (norm + 1), x)
