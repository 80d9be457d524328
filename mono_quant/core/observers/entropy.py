"""The range whose codes tell the most about the values, by relative entropy."""

import torch
from torch import Tensor

from mono_quant.core.observers.bins import Bins, candidates
from mono_quant.core.qtypes import QType

__all__ = ["least_entropy"]


def least_entropy(bins: Bins, qtype: QType, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    """``(min, max)``, 0-d: values beyond ±t clipped, with the t for which ``KL(P ‖ Q) = Σ p log(p / q)`` is least.

    P are the bins within ±t, the counts of those beyond added to the outermost. Q is what one count a code tells of
    them: the n bins without those beyond are put on L levels, bin j on level ``floor(j L / n)``, and each level's count
    is spread evenly over those of its bins that P does not show empty. Both are normalised. (Migacz 2017, "8-bit
    inference with TensorRT", GPU Technology Conference.)

    There are 256 levels for the bins of both signs; with ``symmetric`` 128 for those of the magnitudes. Ranges of fewer
    bins than levels are not candidates: they would lose nothing in this measure. Of equals the widest is taken.

    Args:
        bins: all data of one group; zeros, which no range loses, are not in them.
        qtype: of the codes.
        symmetric: whether the range will be centred on zero.
    """
    levels = qtype.qmax - qtype.qmin + 1
    distances = candidates(bins)
    if symmetric:
        magnitudes = bins.counts[bins.zero :] + bins.counts[: bins.zero].flip(0)
        first, last = torch.zeros_like(distances), distances
        counts, levels = magnitudes, levels // 2
    else:
        counts = bins.counts
        held = counts.nonzero()
        first = (bins.zero - distances).clamp(min=min(int(held[0]), bins.zero))
        last = (bins.zero + distances).clamp(max=max(int(held[-1]) + 1, bins.zero))
    enough = last - first >= levels
    enough[0] = True  # the whole range
    divergences = _divergences(counts.double(), first[enough], last[enough], levels)
    best = distances[enough][divergences.argmin()]
    return bins.edges[bins.zero - best], bins.edges[bins.zero + best]


def _divergences(counts: Tensor, first: Tensor, last: Tensor, levels: int) -> Tensor:
    """``KL(P ‖ Q)`` for K ranges of the bins, ``[first, last)``: ``(K,)``.

    All bins of a level have one q, so ``Σ p log q`` is a sum over levels, whose counts are differences of running sums.

    Args:
        counts: ``(B,)``, float64.
        first: ``(K,)``, where each range begins.
        last: ``(K,)``, where it ends.
        levels: how many each range is put on.
    """
    total = counts.sum()
    up_to, bins_up_to, self_up_to = (_running(x) for x in (counts, (counts > 0).double(), torch.xlogy(counts, counts)))
    # Level l holds bin j when l <= j L / n < l + 1, so it begins at bin ceil(l n / L).
    starts = torch.arange(levels + 1) * (last - first)[:, None]
    starts = first[:, None] + torch.div(starts + levels - 1, levels, rounding_mode="floor")
    of_level, bins_of_level = up_to[starts].diff(), bins_up_to[starts].diff()

    beyond_low, beyond_high = up_to[first], total - up_to[last]
    end_low, end_high = counts[first], counts[last - 1]
    # An empty outermost bin to which others were added is not empty in P.
    bins_of_level[:, 0] += ((end_low == 0) & (beyond_low > 0)).double()
    bins_of_level[:, -1] += ((end_high == 0) & (beyond_high > 0)).double()
    in_p = of_level.clone()
    in_p[:, 0] += beyond_low
    in_p[:, -1] += beyond_high

    self_entropy = self_up_to[last] - self_up_to[first]
    for end, beyond in ((end_low, beyond_low), (end_high, beyond_high)):
        self_entropy += torch.xlogy(end + beyond, end + beyond) - torch.xlogy(end, end)
    within = (up_to[last] - up_to[first]).clamp(min=1)
    q = of_level / bins_of_level.clamp(min=1) / within[:, None]
    return (self_entropy - torch.xlogy(in_p, q).sum(dim=1)) / total - total.log()


def _running(x: Tensor) -> Tensor:
    """``(B,) → (B + 1,)``: the sums up to each place."""
    return torch.cat([torch.zeros(1, dtype=x.dtype), x.cumsum(0)])
