"""The smallest and the largest value seen."""

from typing import ClassVar, Self

import torch
from torch import Tensor

from mono_quant.core.granularity import Granularity
from mono_quant.core.observers.ends import ends_of
from mono_quant.core.qtypes import QType
from mono_quant.plugin_api.observer import Observer

__all__ = ["MinMaxObserver"]


class MinMaxObserver(Observer):
    """Range from the smallest to the largest value ever seen.

    >>> observer = MinMaxObserver()
    >>> _ = observer.forward(torch.tensor([-1.0, 3.0]))
    >>> observer.min_val, observer.max_val
    (tensor(-1.), tensor(3.))
    """

    mergeable: ClassVar[bool] = True
    shows_non_finite: ClassVar[bool] = True

    def __init__(
        self,
        dtype: str | torch.dtype | QType = "int8",
        *,
        symmetric: bool = False,
        granularity: Granularity | None = None,
    ) -> None:
        super().__init__(dtype=dtype, symmetric=symmetric, granularity=granularity)
        self.reset()

    def reset(self) -> None:
        """Forget all data."""
        self._range: tuple[Tensor, Tensor] | None = None

    def observe(self, view: Tensor) -> None:
        """Widen the range to what is in ``view``, ``(observations, groups, elements)``."""
        self._widen(*ends_of(view))

    def range(self) -> tuple[Tensor, Tensor] | None:
        """``(min, max)``, each ``(groups,)``, or None when nothing was observed."""
        return self._range

    def merge(self, other: Self) -> None:
        """Widen the range to the other's; exact."""
        ends = other.range()
        if ends is not None:
            self._widen(*ends)

    def state(self) -> dict[str, Tensor]:
        """``{"min": (groups,), "max": (groups,)}``, or empty."""
        return {} if self._range is None else {"min": self._range[0].clone(), "max": self._range[1].clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""
        self._range = (state["min"].clone(), state["max"].clone()) if state else None

    def _widen(self, low: Tensor, high: Tensor) -> None:
        if self._range is not None:
            low, high = torch.minimum(self._range[0], low), torch.maximum(self._range[1], high)
        self._range = (low, high)
