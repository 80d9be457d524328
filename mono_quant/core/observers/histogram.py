"""The range that a histogram of all the data shows to be best."""

import torch
from torch import Tensor

from mono_quant.core.granularity import Granularity
from mono_quant.core.observers.binned import BinnedObserver
from mono_quant.core.observers.bins import Bins
from mono_quant.core.observers.entropy import least_entropy
from mono_quant.core.observers.squared_error import least_squared_error
from mono_quant.core.qtypes import QType

__all__ = ["HistogramObserver"]

_SEARCHES = {"l2": least_squared_error, "entropy": least_entropy}


class HistogramObserver(BinnedObserver):
    """The best range by a histogram of all the data, see `BinnedObserver` for how that is kept.

    Args:
        search: what is best: ``"l2"``, the least squared error, see `least_squared_error`; ``"entropy"``, the codes
            that tell the most about the values, see `least_entropy`.
        bins: of the histogram.
        dtype: integer type of the codes.
        symmetric: whether the range is centred on zero.
        granularity: which elements share a scale.
    """

    def __init__(
        self,
        *,
        search: str = "l2",
        bins: int = 2048,
        dtype: str | torch.dtype | QType = "int8",
        symmetric: bool = False,
        granularity: Granularity | None = None,
    ) -> None:
        super().__init__(bins=bins, dtype=dtype, symmetric=symmetric, granularity=granularity)
        if search not in _SEARCHES:
            raise ValueError(f"search must be one of {', '.join(map(repr, _SEARCHES))}, got {search!r}")
        self.by = search

    def search(self, bins: Bins) -> tuple[Tensor, Tensor]:
        """``(min, max)`` of one group."""
        return _SEARCHES[self.by](bins, self.qtype, symmetric=self.symmetric)
