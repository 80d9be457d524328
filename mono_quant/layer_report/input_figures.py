"""How the values of a layer's input lie in the range of its codes, and how much its channels differ."""

import torch
from torch import Tensor

from mono_quant.core.blocks import row_blocks
from mono_quant.core.qtypes import QType

__all__ = ["InputFigures"]

_TIMES_THE_MEDIAN = 6.0
"""By how much a channel is an outlier. LLM.int8() (https://arxiv.org/abs/2208.07339) calls features of a magnitude of 6
and more so; taken by the median channel, the rule does not depend on the scale of a model."""
_LEFT_OUT = 2000
"""One value of so many may lie below, and one above, what counts as the range that is used: together 0.1 %."""


class InputFigures:
    """Counts over all inputs of a layer, a piece of each at a time.

    Args:
        qtype: type of the codes.
        qparams: scale and zero point; None where each input has its own.
        channel_axis: of the channels, counted from the end, so that inputs without a batch fit.
    """

    def __init__(self, qtype: QType, qparams: tuple[float, int] | None, channel_axis: int) -> None:
        self._qtype = qtype
        self._qparams = qparams
        self._axis = channel_axis
        self._counts = torch.zeros(qtype.qmax - qtype.qmin + 1, dtype=torch.int64)
        self._clipped = 0
        self._magnitudes: Tensor | None = None

    def __call__(self, x: Tensor) -> None:
        """Take in one input; an empty one changes nothing."""
        x = x.detach()
        if not x.numel() or x.ndim < -self._axis:
            return
        x = x[None] if x.ndim == -self._axis else x
        others = [axis for axis in range(x.ndim) if axis != x.ndim + self._axis]
        for block in row_blocks(x):
            piece = x[block].float()
            magnitudes = piece.abs().amax(dim=others).cpu()
            known = self._magnitudes
            self._magnitudes = magnitudes if known is None else torch.maximum(known, magnitudes)
            if self._qparams is not None:
                self._count(piece, *self._qparams)

    @property
    def saturation_percent(self) -> float | None:
        """Share of the values whose code lies outside of the type's before it is clamped."""
        total = int(self._counts.sum())
        return 100 * self._clipped / total if total else None

    @property
    def range_used_percent(self) -> float | None:
        """From the lowest to the highest code, of all codes, without 0.05 % of the values at each end."""
        total = int(self._counts.sum())
        if not total:
            return None
        up_to = self._counts.cumsum(0)
        ends = torch.tensor([total // _LEFT_OUT + 1, total - total // _LEFT_OUT])
        low, high = (int(place) for place in torch.searchsorted(up_to, ends))
        return 100 * (high - low) / (len(self._counts) - 1)

    @property
    def input_channels(self) -> int | None:
        """How many there are; None when nothing was seen."""
        return None if self._magnitudes is None else len(self._magnitudes)

    @property
    def outlier_channels(self) -> int | None:
        """How many stand out of the channels that are not all zero."""
        if self._magnitudes is None:
            return None
        alive = self._magnitudes[self._magnitudes > 0]
        return int((alive > _TIMES_THE_MEDIAN * alive.median()).sum()) if len(alive) else 0

    def _count(self, piece: Tensor, scale: float, zero_point: int) -> None:
        low, high = self._qtype.qmin, self._qtype.qmax
        # A NaN, which calibration refuses, can come with ranges from an earlier run: it counts as zero.
        codes = piece.div(scale).round_().add_(zero_point).nan_to_num_(nan=float(zero_point))
        self._clipped += int(((codes < low) | (codes > high)).sum())
        places = codes.clamp_(low, high).sub_(low).to(torch.int32).flatten()
        self._counts += places.bincount(minlength=len(self._counts)).cpu()
