"""The ``percentile`` observer: the range that all but the outermost values lie in."""

from typing import Any, Self

import torch
from mono_quant.plugin_api import Observer, ObserverSpec, hookimpl


class PercentileObserver(Observer):
    """Range from the value that ``100 - percentile`` percent lie below to the one that ``percentile`` percent do.

    Counts how often each value occurs, of float32 the first 16 bits: exact in any order of the data, in 512 KiB a
    group. The ends of the range are those values, which are up to 2^-7 nearer to zero than the data.

    Args:
        percentile: above 50, at most 100, which is the whole range.
        common: what every observer takes: dtype, symmetric, granularity.
    """

    mergeable = True

    def __init__(self, *, percentile: float = 99.9, **common: Any) -> None:  # noqa: ANN401 - the base class has their types
        super().__init__(**common)
        if not 50 < percentile <= 100:  # noqa: PLR2004 - percent
            raise ValueError(f"percentile must be above 50 and at most 100, got {percentile}")
        self.percentile = percentile
        self.reset()

    def reset(self) -> None:
        """Forget all data."""
        self._counts = torch.zeros(1, 2**16, dtype=torch.int64)

    def observe(self, view: torch.Tensor) -> None:
        """Take in one view, ``(observations, groups, elements)``."""
        bits = view.transpose(0, 1).flatten(1).float().view(torch.int32) >> 16 & 0xFFFF
        self._counts = self._counts + torch.stack([row.bincount(minlength=2**16) for row in bits])

    def range(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """``(min, max)``, each ``(groups,)``, or None when nothing was observed."""
        values, order = (torch.arange(2**16, dtype=torch.int32) << 16).view(torch.float32).sort()
        counted = self._counts[:, order].cumsum(dim=1)
        inside = torch.ceil(counted[:, -1:].double() * (self.percentile / 100)).long()
        ranks = torch.cat([counted[:, -1:] - inside + 1, inside], dim=1).clamp(max=counted[:, -1:])
        ends = values[torch.searchsorted(counted, ranks).T.flatten()].view(2, -1)
        return (ends[0], ends[1]) if self._counts.any() else None

    def merge(self, other: Self) -> None:
        """Take in what another has seen."""
        self._counts = self._counts + other._counts

    def state(self) -> dict[str, torch.Tensor]:
        """``{"counts": (groups, 65536)}``, int64, or empty."""
        return {"counts": self._counts.clone()} if self._counts.any() else {}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state` gave."""
        self._counts = state["counts"].clone() if state else torch.zeros(1, 2**16, dtype=torch.int64)


@hookimpl
def mono_quant_observers() -> list[ObserverSpec]:
    """Announce it."""
    return [ObserverSpec(name="percentile", summary="all but the outermost values", factory=PercentileObserver)]
