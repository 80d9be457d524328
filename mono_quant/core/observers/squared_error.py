"""The range with the least squared error of rounding and clipping together."""

import torch
from torch import Tensor

from mono_quant.core.affine import choose_qparams
from mono_quant.core.observers.bins import Bins, candidates, mean_errors
from mono_quant.core.qtypes import QType
from mono_quant.plugin_api.observer import SMALLEST_ACTIVATION_SCALE

__all__ = ["least_squared_error"]


def least_squared_error(bins: Bins, qtype: QType, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    """``(min, max)``, 0-d: of all pairs of candidate ends the one with the least error.

        E(l, h) = N(l, h) · s² / 12  +  Σ_{x < l} (l - x)²  +  Σ_{x > h} (x - h)²

    N(l, h) values lie within, where the error of rounding is spread evenly over a step s = (h - l) / (qmax - qmin) and
    its mean square s² / 12 (Bennett 1948, "Spectra of quantized signals"). With ``symmetric``, the
    pairs are (-t, t). Where the errors of the pair that is found, rounding counted exactly, are not less than those of
    the whole range, as for values that happen to lie on its grid, the whole range is kept.

    Args:
        bins: all data of one group.
        qtype: of the codes.
        symmetric: whether the range will be centred on zero.
    """
    distances = candidates(bins)
    below, above = _clipped(bins)
    up_to = torch.cat([torch.zeros(1, dtype=torch.float64), bins.counts.double().cumsum(0)])
    at_high = bins.zero + distances
    at_low = bins.zero - (distances if symmetric or bins.edges[0] < 0 else distances[:1])
    at_low = at_low if symmetric else at_low[:, None]
    low, high = bins.edges[at_low], bins.edges[at_high]
    if symmetric:
        step = torch.maximum(-low, high) / ((qtype.qmax - qtype.qmin) // 2)
    else:
        step = (high.clamp(min=0) - low.clamp(max=0)) / (qtype.qmax - qtype.qmin)
    within = up_to[at_high] - up_to[at_low]
    errors = within * step.clamp(min=SMALLEST_ACTIVATION_SCALE / bins.unit) ** 2 / 12 + below[at_low] + above[at_high]
    best = errors.argmin()
    ends = (end.expand_as(errors).flatten()[best] for end in (low, high))
    lows, highs = (torch.stack(pair) for pair in zip((bins.edges[0], bins.edges[-1]), ends, strict=True))
    exact = _exact(bins, lows, highs, qtype, symmetric=symmetric)
    better = int(exact[1] < exact[0])
    return lows[better], highs[better]


def _clipped(bins: Bins) -> tuple[Tensor, Tensor]:
    """``Σ_{x < e} (e - x)²`` and ``Σ_{x > e} (x - e)²`` for each edge e: two ``(2 B + 1,)``.

    With x spread evenly in a bin of middle m and width v, ``mean (x - e)² = m² + v² / 12 - 2 e m + e²``: three sums.
    """
    middle, width = (bins.edges[1:] + bins.edges[:-1]) / 2, bins.edges.diff()
    moments = torch.stack([torch.ones_like(middle), middle, middle**2 + width**2 / 12]) * bins.counts.double()
    nothing = torch.zeros(3, 1, dtype=torch.float64)
    below = torch.cat([nothing, moments.cumsum(1)], dim=1)
    above = torch.cat([moments.flip(1).cumsum(1).flip(1), nothing], dim=1)
    left, right = (n * bins.edges**2 - 2 * bins.edges * first + second for n, first, second in (below, above))
    return left.clamp(min=0), right.clamp(min=0)


def _exact(bins: Bins, low: Tensor, high: Tensor, qtype: QType, *, symmetric: bool) -> Tensor:
    scale, zero_point = choose_qparams(
        low * bins.unit, high * bins.unit, qtype, symmetric=symmetric, smallest_scale=SMALLEST_ACTIVATION_SCALE
    )
    return mean_errors(bins, scale, zero_point, qtype, norm=2)
