"""The ``spread`` observer: mean ± k standard deviations, within what was seen."""

import math
from typing import Any, Self

import torch
from mono_quant.plugin_api import Observer, ObserverSpec, hookimpl


class SpreadObserver(Observer):
    """Range from k standard deviations below the mean to k above it, but not beyond the data.

    Keeps five numbers a group, in float64: how many values, their sum, that of their squares, and how far they reach
    below and above zero.

    Args:
        k: how many standard deviations, above 0.
        common: what every observer takes: dtype, symmetric, granularity.
    """

    mergeable = True

    def __init__(self, *, k: float = 4.0, **common: Any) -> None:  # noqa: ANN401 - the base class has their types
        super().__init__(**common)
        if not 0 < k < math.inf:
            raise ValueError(f"k must be above 0 and finite, got {k}")
        self.k = k
        self.reset()

    def reset(self) -> None:
        """Forget all data."""
        self.load_state({})

    def observe(self, view: torch.Tensor) -> None:
        """Take in one view, ``(observations, groups, elements)``."""
        x = view.double()
        each = torch.stack([torch.ones_like(x), x, x**2, -x, x])
        self._add(torch.cat([each[:3].sum(dim=(1, 3)), each[3:].amax(dim=(1, 3))]))

    def range(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """``(min, max)``, each ``(groups,)``, or None when nothing was observed."""
        count, total, squares, below, above = self._seen
        mean = total / count
        reach = self.k * (squares / count - mean**2).clamp(min=0).sqrt()
        return ((mean - reach).clamp(-below, above), (mean + reach).clamp(-below, above)) if count.any() else None

    def merge(self, other: Self) -> None:
        """Take in what another has seen."""
        self._add(other._seen)

    def state(self) -> dict[str, torch.Tensor]:
        """``{"seen": (5, groups)}``, float64, or empty."""
        return {"seen": self._seen.clone()} if self._seen[0].any() else {}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state` gave."""
        self._seen = state.get("seen", torch.tensor([[0.0], [0.0], [0.0], [-math.inf], [-math.inf]])).double().clone()

    def _add(self, new: torch.Tensor) -> None:
        self._seen = torch.cat([self._seen[:3] + new[:3], torch.maximum(self._seen[3:], new[3:])])


@hookimpl
def mono_quant_observers() -> list[ObserverSpec]:
    """Announce it."""
    return [ObserverSpec(name="spread", summary="mean ± k standard deviations", factory=SpreadObserver)]
