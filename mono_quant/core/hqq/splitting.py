"""The scale and zero point of each group of weights, by half-quadratic splitting.

HQQ (Badri and Shaji 2023, https://mobiusml.github.io/hqq_blog/) makes the sum of ``|r|^p`` small, where ``r`` is what a
weight and the value of its code differ by, and ``p < 1``: a few weights may be far off if the others gain by it. The
differences get a variable of their own, ``e``, held to them by a penalty ``β`` that grows, and in turn

1. each weight gets its nearest code, ``q = clamp(round(w / s) + z)``;
2. ``e`` makes ``|e|^p + β/2 (e - r)²`` small: ``e = sign(r) · max(|r| - |r|^(p-1) / β, 0)``;
3. ``z`` and ``s`` are those of the line of least squares through the points ``(q, w - e)``;
4. ``β ← κ β``.

The authors keep ``s`` and let ``z`` be any number. Here zero points are whole numbers, so that a weight of zero stays
zero: ``z`` is rounded, and ``s`` is then the best for it. A group is done when its sum falls no more, and keeps what
made it least, be it what it came with. ``r`` is taken as a part of the group's range, so that a weight twice as large
gets twice the scale.

Shape suffixes: G groups of E weights each; 1 for each group.
"""

from typing import Self

import attrs
import torch
from torch import Tensor

from mono_quant.core.affine import SMALLEST_SCALE
from mono_quant.core.qtypes import QType

__all__ = ["split"]

_PENALTY = 10.0
"""``β`` at first; this and the next are the authors' numbers."""
_GROWTH = 1.01
"""``κ``."""
_WORTH_IT = 0.999
"""The part of a group's sum that may be left at most; a smaller gain could be an error of the sums themselves."""


def split(
    weight_GE: Tensor,
    scale_G1: Tensor,
    zero_point_G1: Tensor,
    qtype: QType,
    *,
    is_symmetric: bool,
    power: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Better scales and zero points, float32 ``(G, 1)`` each; where none are found, those that were given.

    Args:
        weight_GE: float, finite.
        scale_G1: float32, positive.
        zero_point_G1: float32, whole numbers.
        qtype: type of the codes.
        is_symmetric: whether zero points stay.
        power: ``p``, above 0, at most 1.
        steps: how often at most.
    """
    scales_G1, zero_points_G1 = torch.ones_like(scale_G1), zero_point_G1.clone()
    # In steps of the scale that is there, so that nothing becomes too large or too small on the way.
    groups = _Groups.of(weight_GE.float() / scale_G1, scales_G1, zero_point_G1, qtype)
    gaining_G = torch.arange(len(weight_GE), device=weight_GE.device)
    least_G = _WORTH_IT * groups.sums(power)
    for step in range(steps):
        groups = groups.fitted(_PENALTY * _GROWTH**step, power, is_symmetric=is_symmetric)
        sums_G = groups.sums(power)
        gains_G = sums_G < least_G
        groups, gaining_G, least_G = groups.only(gains_G), gaining_G[gains_G], sums_G[gains_G]
        if not len(gaining_G):
            break
        scales_G1[gaining_G], zero_points_G1[gaining_G] = groups.scale_G1, groups.zero_point_G1
    scales_G1 *= scale_G1
    holds_G1 = (scales_G1 >= SMALLEST_SCALE) & torch.isfinite(scales_G1 * (qtype.qmax - qtype.qmin))
    return torch.where(holds_G1, scales_G1, scale_G1), torch.where(holds_G1, zero_points_G1, zero_point_G1)


@attrs.frozen(eq=False)
class _Groups:
    """Weights, and how they are rounded."""

    qtype: QType
    weight_GE: Tensor
    scale_G1: Tensor
    zero_point_G1: Tensor
    codes_GE: Tensor
    error_GE: Tensor
    """``r``. A weight is counted in steps of the scale that its group came with, and an error in ranges of that."""

    @classmethod
    def of(cls, weight_GE: Tensor, scale_G1: Tensor, zero_point_G1: Tensor, qtype: QType) -> Self:
        """Rounded to the nearest codes."""
        codes_GE = (weight_GE / scale_G1).round_().add_(zero_point_G1).clamp_(qtype.qmin, qtype.qmax)
        error_GE = weight_GE - (codes_GE - zero_point_G1) * scale_G1
        return cls(qtype, weight_GE, scale_G1, zero_point_G1, codes_GE, error_GE.div_(qtype.qmax - qtype.qmin))

    def only(self, some_G: Tensor) -> "_Groups":
        """Some of them."""
        return attrs.evolve(
            self,
            weight_GE=self.weight_GE[some_G],
            scale_G1=self.scale_G1[some_G],
            zero_point_G1=self.zero_point_G1[some_G],
            codes_GE=self.codes_GE[some_G],
            error_GE=self.error_GE[some_G],
        )

    def sums(self, power: float) -> Tensor:
        """``Σ |r|^p`` of each, ``(G,)``."""
        return _sum(self.error_GE.abs().pow_(power))[:, 0]

    def fitted(self, penalty: float, power: float, *, is_symmetric: bool) -> "_Groups":
        """Rounded anew, by the scale and zero point that fit these codes."""
        size_GE = self.error_GE.abs()
        shrunk_GE = (size_GE - size_GE.pow(power - 1) / penalty).clamp_(min=0).mul_(self.error_GE.sign())
        target_GE = self.weight_GE - shrunk_GE * (self.qtype.qmax - self.qtype.qmin)
        zero_point_G1 = self.zero_point_G1 if is_symmetric else self._zero_point(target_GE)
        steps_GE = self.codes_GE - zero_point_G1
        slope_G1 = _sum(steps_GE * target_GE) / _sum(steps_GE.square())
        scale_G1 = torch.where(slope_G1 > 0, slope_G1, self.scale_G1)  # not where it is NaN, of codes that are all zero
        return _Groups.of(self.weight_GE, scale_G1, zero_point_G1, self.qtype)

    def _zero_point(self, target_GE: Tensor) -> Tensor:
        """The whole number nearest to where the line through the codes and what they should stand for is 0."""
        code_G1, mean_G1 = (_sum(x_GE) / x_GE.shape[1] for x_GE in (self.codes_GE, target_GE))
        centred_GE = self.codes_GE - code_G1
        slope_G1 = _sum(centred_GE * target_GE) / _sum(centred_GE.square())
        whole_G1 = (code_G1 - mean_G1 / slope_G1).round_().clamp_(self.qtype.qmin, self.qtype.qmax)
        return torch.where(slope_G1 > 0, whole_G1, self.zero_point_G1)


def _sum(x_GE: Tensor) -> Tensor:
    """Of each group; in float64, where the order of addition, which threads may change, hardly ever shows."""
    return x_GE.sum(dim=1, keepdim=True, dtype=torch.float64).float()
