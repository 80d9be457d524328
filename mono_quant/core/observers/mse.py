"""The range, shrunk step by step, whose rounding and clipping errors are least."""

import torch
from torch import Tensor

from mono_quant.core.affine import choose_qparams
from mono_quant.core.granularity import Granularity
from mono_quant.core.observers.binned import BinnedObserver
from mono_quant.core.observers.bins import Bins, mean_errors
from mono_quant.core.qtypes import QType
from mono_quant.plugin_api.observer import SMALLEST_ACTIVATION_SCALE

__all__ = ["MSEObserver"]


class MSEObserver(BinnedObserver):
    """Of the ranges ``p · [min, max]``, the one with the least ``Σ |x - x̂|^norm`` over all the data.

    ``p = 1 - i / grid`` for ``i < maxshrink · grid``; of equals the widest. An end that lies on the other side of zero
    stays, since every range is widened to zero. (The grid and its defaults are those of llm-compressor.)

    The errors are computed from a histogram of all the data, not of the last batch, see `BinnedObserver`.

    Args:
        maxshrink: how much of the range may go, above 0, below 1.
        grid: how many steps the whole range would have.
        norm: the power of the error; 2 is the squared error, more weighs clipping more.
        bins: of the histogram.
        dtype: integer type of the codes.
        symmetric: whether the range is centred on zero.
        granularity: which elements share a scale.
    """

    def __init__(
        self,
        *,
        maxshrink: float = 0.2,
        grid: int = 100,
        norm: float = 2.4,
        bins: int = 2048,
        dtype: str | torch.dtype | QType = "int8",
        symmetric: bool = False,
        granularity: Granularity | None = None,
    ) -> None:
        super().__init__(bins=bins, dtype=dtype, symmetric=symmetric, granularity=granularity)
        if not 0 < maxshrink < 1:
            raise ValueError(f"maxshrink must be above 0 and below 1, got {maxshrink}")
        if type(grid) is not int or not 1 <= grid <= 10_000:  # noqa: PLR2004 - each step is a pass over the bins
            raise ValueError(f"grid must be a whole number from 1 to 10000, got {grid!r}")
        if not 0 < norm <= 20:  # noqa: PLR2004 - with more, float64 can no longer compare the errors
            raise ValueError(f"norm must be above 0 and at most 20, got {norm}")
        self.maxshrink = maxshrink
        self.grid = grid
        self.norm = norm

    def search(self, bins: Bins) -> tuple[Tensor, Tensor]:
        """``(min, max)`` of one group."""
        steps = torch.arange(self.grid, dtype=torch.float64)
        p = 1 - steps[steps < self.maxshrink * self.grid] / self.grid
        least, most = bins.edges[0], bins.edges[-1]
        low = torch.where(least < 0, torch.minimum(p * least, most), least)
        high = torch.where(most > 0, torch.maximum(p * most, least), most)
        scale, zero_point = choose_qparams(
            low * bins.unit, high * bins.unit, self.qtype, symmetric=self.symmetric,
            smallest_scale=SMALLEST_ACTIVATION_SCALE,
        )  # fmt: skip
        best = mean_errors(bins, scale, zero_point, self.qtype, norm=self.norm).argmin()
        return low[best], high[best]
