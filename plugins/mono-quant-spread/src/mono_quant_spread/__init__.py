"""The ``spread`` observer: range = mean ± k standard deviations, within what was seen."""

from math import inf
from typing import Any, ClassVar, Self

import torch
from mono_quant import hookimpl
from mono_quant.plugin_api import Observer, ObserverSpec
from torch import Tensor

__all__ = ["SpreadObserver", "mono_quant_observers"]

_NOTHING = torch.tensor([0.0, 0.0, 0.0, inf, -inf], dtype=torch.float64)
"""What an observer without data has seen: count, mean, sum of squared deviations, smallest and largest value."""


class SpreadObserver(Observer):
    """Range = mean ± k standard deviations of the values, clipped to the smallest and the largest of them.

    Args:
        k: how many standard deviations; finite, above zero.
        common: what every observer takes: dtype, symmetric, granularity.
    """

    mergeable: ClassVar[bool] = True
    shows_non_finite: ClassVar[bool] = True

    def __init__(self, *, k: float = 4.0, **common: Any) -> None:  # noqa: ANN401 - the base class has their types
        super().__init__(**common)
        if not 0 < k < inf:
            raise ValueError(f"k must be a finite number above 0, got {k}")
        self.k = k
        self.reset()

    def reset(self) -> None:
        """Forget all data."""
        self._seen = _NOTHING

    def observe(self, view: Tensor) -> None:
        """Take in one view, ``(observations, groups, elements)``."""
        x = view.double()
        variance, mean = torch.var_mean(x, dim=(0, 2), correction=0)
        n = torch.full_like(mean, x.numel() / mean.numel())
        self._add(torch.stack([n, mean, n * variance, x.amin(dim=(0, 2)), x.amax(dim=(0, 2))]))

    def range(self) -> tuple[Tensor, Tensor] | None:
        """``(min, max)``, each ``(groups,)``, or None when nothing was observed."""
        n, mean, squares, low, high = self._seen
        reach = self.k * (squares / n).sqrt()
        ends = (mean - reach).clamp(low, high), (mean + reach).clamp(low, high)
        return ends if self.state() else None

    def merge(self, other: Self) -> None:
        """Take in what another has seen."""
        self._add(other._seen)

    def state(self) -> dict[str, Tensor]:
        """``{"seen": (5, groups)}``, float64, or empty."""
        return {"seen": self._seen} if self._seen.ndim > 1 else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""
        self._seen = state.get("seen", _NOTHING)

    def _add(self, new: Tensor) -> None:
        """Chan, Golub and LeVeque 1979, Updating Formulae and a Pairwise Algorithm, equation 2.1."""
        n, mean, squares, low, high = self._seen
        m, new_mean, new_squares, new_low, new_high = new
        delta, share = new_mean - mean, m / (n + m).clamp(min=1)
        moments = n + m, mean + delta * share, squares + new_squares + delta**2 * n * share
        self._seen = torch.stack([*moments, torch.minimum(low, new_low), torch.maximum(high, new_high)])


@hookimpl
def mono_quant_observers() -> list[ObserverSpec]:
    """Announce it."""
    return [ObserverSpec(name="spread", summary="mean ± k standard deviations", factory=SpreadObserver)]
