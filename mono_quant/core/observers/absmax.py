"""As far on either side of zero as the largest magnitude seen."""

from typing import ClassVar, Self

import torch
from torch import Tensor

from mono_quant.core.granularity import Granularity
from mono_quant.core.observers.ends import ends_of
from mono_quant.core.qtypes import QType
from mono_quant.plugin_api.observer import Observer

__all__ = ["AbsMaxObserver"]


class AbsMaxObserver(Observer):
    """Range ``[-a, a]``, where ``a`` is the largest magnitude ever seen.

    With ``symmetric=True`` this gives the scale that min-max gives; with ``symmetric=False`` the zero point is near the
    middle code whatever the data, and data of one sign uses half of the codes.

    >>> observer = AbsMaxObserver()
    >>> _ = observer.forward(torch.tensor([-1.0, 3.0]))
    >>> observer.min_val, observer.max_val
    (tensor(-3.), tensor(3.))
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
        self._largest: Tensor | None = None

    def observe(self, view: Tensor) -> None:
        """Take in the largest magnitude in ``view``, ``(observations, groups, elements)``."""
        low, high = ends_of(view)
        self._raise_to(torch.maximum(-low, high))

    def range(self) -> tuple[Tensor, Tensor] | None:
        """``(-a, a)``, each ``(groups,)``, or None when nothing was observed."""
        return None if self._largest is None else (-self._largest, self._largest)

    def merge(self, other: Self) -> None:
        """Take in the other's largest magnitude; exact."""
        if other._largest is not None:
            self._raise_to(other._largest)

    def state(self) -> dict[str, Tensor]:
        """``{"absmax": (groups,)}``, or empty."""
        return {} if self._largest is None else {"absmax": self._largest.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""
        self._largest = state["absmax"].clone() if state else None

    def _raise_to(self, largest: Tensor) -> None:
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)
