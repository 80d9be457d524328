"""The ends of each batch, averaged over the batches."""

from typing import ClassVar

import torch
from torch import Tensor

from mono_quant.core.granularity import Granularity
from mono_quant.core.observers.ends import ends_of
from mono_quant.core.qtypes import QType
from mono_quant.plugin_api.observer import Observer

__all__ = ["MovingAverageObserver"]


class MovingAverageObserver(Observer):
    """Range from the averaged smallest to the averaged largest value of a batch.

        average ← average + constant · (batch - average),        the first batch begins it

    (Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.1.) What it gives depends on how the data is cut
    into batches and on their order. Two of them therefore cannot be merged: no rule gives what one observer of all the
    data would have given, and `merge` raises `TypeError`.

    Args:
        constant: how much of the way to each new batch the average goes; above 0, at most 1: the last one alone.
        dtype: integer type of the codes.
        symmetric: whether the range is centred on zero.
        granularity: which elements share a scale.
    """

    mergeable: ClassVar[bool] = False
    shows_non_finite: ClassVar[bool] = True

    def __init__(
        self,
        *,
        constant: float = 0.01,
        dtype: str | torch.dtype | QType = "int8",
        symmetric: bool = False,
        granularity: Granularity | None = None,
    ) -> None:
        super().__init__(dtype=dtype, symmetric=symmetric, granularity=granularity)
        if not 0 < constant <= 1:
            raise ValueError(f"constant must be above 0 and at most 1, got {constant}")
        self.constant = constant
        self.reset()

    def reset(self) -> None:
        """Forget all data."""
        self._range: tuple[Tensor, Tensor] | None = None

    def observe(self, view: Tensor) -> None:
        """Move the average toward the ends of ``view``, ``(observations, groups, elements)``."""
        # In float64 the difference of two float32 numbers does not overflow, and a constant stays what it is.
        low, high = (end.double() for end in ends_of(view))
        if self._range is not None:
            low, high = torch.lerp(self._range[0], low, self.constant), torch.lerp(self._range[1], high, self.constant)
        self._range = (low, high)

    def range(self) -> tuple[Tensor, Tensor] | None:
        """``(min, max)``, each ``(groups,)``, float64, or None when nothing was observed."""
        return self._range

    def state(self) -> dict[str, Tensor]:
        """``{"average_min": (groups,), "average_max": (groups,)}``, float64, or empty."""
        if self._range is None:
            return {}
        return {"average_min": self._range[0].clone(), "average_max": self._range[1].clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""
        self._range = (state["average_min"].clone(), state["average_max"].clone()) if state else None
