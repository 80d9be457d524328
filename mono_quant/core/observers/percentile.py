"""All but the outermost values."""

from typing import ClassVar, Self

import torch
from torch import Tensor

from mono_quant.core.granularity import Granularity
from mono_quant.core.observers.ends import ends_of
from mono_quant.core.observers.pieces import pieces
from mono_quant.core.qtypes import QType
from mono_quant.plugin_api.observer import Observer

__all__ = ["PercentileObserver"]

_NUMBERS = 2**16
"""How many bfloat16 numbers there are."""


class PercentileObserver(Observer):
    """Range from the value that ``100 - percentile`` percent lie below to the one that ``percentile`` percent do.

    Of n values in order, the upper end is number ``ceil(n · percentile / 100)``, and the lower end is as far from the
    other side: with fewer than ``100 / (100 - percentile)`` values nothing is left out.

    Counts how often each value occurs, rounded to bfloat16: whatever the order and the batches, all of the data counts,
    an outlier costs no resolution, and two observers merge exactly. An end is exact for data in bfloat16, and within
    2^-8 of its magnitude otherwise. Takes 512 KiB of memory a group.

    Args:
        percentile: above 50, at most 100, which is the whole range.
        dtype: integer type of the codes.
        symmetric: whether the range is centred on zero.
        granularity: which elements share a scale.
    """

    mergeable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        percentile: float = 99.99,
        dtype: str | torch.dtype | QType = "int8",
        symmetric: bool = False,
        granularity: Granularity | None = None,
    ) -> None:
        super().__init__(dtype=dtype, symmetric=symmetric, granularity=granularity)
        if not 50 < percentile <= 100:  # noqa: PLR2004 - percent
            raise ValueError(f"percentile must be above 50 and at most 100, got {percentile}")
        self.percentile = percentile
        self.reset()

    def reset(self) -> None:
        """Forget all data."""
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None

    def observe(self, view: Tensor) -> None:
        """Count the values in ``view``, ``(observations, groups, elements)``."""
        low, high = ends_of(view)
        if self._seen is None:
            self._seen = (torch.zeros(view.shape[1], _NUMBERS, dtype=torch.int64), low, high)
        for piece in pieces(view, least=4 * _NUMBERS):
            bits = piece.to(torch.bfloat16).view(torch.int16).to(torch.int32).bitwise_and_(_NUMBERS - 1)
            for counts, group in zip(self._seen[0], bits, strict=True):
                counts.add_(group.bincount(minlength=_NUMBERS))
        self._widen(low, high)

    def range(self) -> tuple[Tensor, Tensor] | None:
        """``(min, max)``, each ``(groups,)``, float32, or None when nothing was observed."""
        if self._seen is None:
            return None
        counts, low, high = self._seen
        # In the order of the values: the bits of negative numbers grow with their magnitude.
        bits = torch.cat([torch.arange(_NUMBERS // 2, _NUMBERS).flip(0) - _NUMBERS, torch.arange(_NUMBERS // 2)])
        values = bits.to(torch.int16).view(torch.bfloat16).float()
        up_to = counts[:, bits].cumsum(dim=1)
        total = up_to[:, -1:]
        inside = torch.ceil(total.double() * (self.percentile / 100)).long().clamp(max=total)
        ranks = (total - inside + 1, inside)
        ends = [values[torch.searchsorted(up_to, rank)].flatten() for rank in ranks]
        # Rounding may lead out of the data, and 3.4e38 to infinity.
        return ends[0].clamp(low.float(), high.float()), ends[1].clamp(low.float(), high.float())

    def merge(self, other: Self) -> None:
        """Add the other's counts; exact."""
        if other._seen is None:
            return
        if self._seen is None:
            self.load_state(other.state())
            return
        counts, low, high = other._seen
        self._seen[0].add_(counts)
        self._widen(low, high)

    def state(self) -> dict[str, Tensor]:
        """``{"bfloat16_counts": (groups, 65536) int64, "min": (groups,), "max": (groups,)}``, or empty.

        Count ``i`` is that of the number whose bits are ``i``.
        """
        if self._seen is None:
            return {}
        counts, low, high = (x.clone() for x in self._seen)
        return {"bfloat16_counts": counts, "min": low, "max": high}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""
        self._seen = (state["bfloat16_counts"].clone(), state["min"].clone(), state["max"].clone()) if state else None

    def _widen(self, low: Tensor, high: Tensor) -> None:
        if self._seen is not None:
            self._seen = (self._seen[0], torch.minimum(self._seen[1], low), torch.maximum(self._seen[2], high))
