"""Observers: from the data that passes a layer to the range its codes must cover."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor

from mono_quant.core.affine import choose_qparams
from mono_quant.core.granularity import Granularity, PerTensor
from mono_quant.core.qtypes import QType, as_qtype

__all__ = ["SMALLEST_ACTIVATION_SCALE", "Observer"]

SMALLEST_ACTIVATION_SCALE = 1e-8


class Observer(ABC):
    """Sees tensors one after another and keeps what is needed to choose scale and zero point.

    A subclass reduces one canonical view of the data, shape ``(observations, groups, elements)`` whatever the
    granularity,
    to a minimum and a maximum of shape ``(groups,)``. Its memory must not grow with the number of batches, and reading
    it has no side effect. It must not change the view.

    Args:
        dtype: integer type of the codes: ``"int8"``, ``"uint8"`` or the torch dtype.
        symmetric: whether the range is centred on zero.
        granularity: which elements share a scale.
    """

    mergeable: ClassVar[bool] = False
    """Whether `merge` gives exactly what observing all the data with one observer would have given."""

    shows_non_finite: ClassVar[bool] = False
    """Whether a NaN or infinity in the data shows in `range`. Where it does not, the engine looks for one itself."""

    def __init__(
        self,
        *,
        dtype: str | torch.dtype | QType = "int8",
        symmetric: bool = False,
        granularity: Granularity | None = None,
    ) -> None:
        self.qtype = as_qtype(dtype)
        self.symmetric = symmetric
        self.granularity = PerTensor() if granularity is None else granularity

    @abstractmethod
    def reset(self) -> None:
        """Forget all data."""

    @abstractmethod
    def observe(self, view: Tensor) -> None:
        """Take in one view, ``(observations, groups, elements)``, of any float dtype, with at least one element."""

    @abstractmethod
    def range(self) -> tuple[Tensor, Tensor] | None:
        """``(min, max)``, each ``(groups,)``, or None when nothing was observed."""

    def merge(self, other: Self) -> None:
        """Take in what another observer of the same kind has seen.

        Raises:
            TypeError: when this kind of observer cannot be merged.
        """
        message = f"{type(self).__name__} cannot be merged with {type(other).__name__}"
        raise TypeError(message)

    def state(self) -> dict[str, Tensor]:
        """The statistics as tensors, in memory of their own; empty when nothing was observed.

        What is observed later does not change them, and who writes into them does not change the observer.
        """
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave to an observer that was made alike, for the same granularity. Copies the tensors.

        The type of the codes and ``symmetric`` may differ: a state says what was seen, and a range for other codes is
        found from it as if this observer had seen the data. Options that change only how may differ too.

        Raises:
            TypeError: when this kind of observer keeps no state.
            ValueError: when the state is of an observer with other options, which change what is kept.
        """
        message = f"{type(self).__name__} has no state to load {sorted(state)} into"
        raise TypeError(message)

    def forward(self, x: Tensor) -> Tensor:
        """Observe a tensor of any shape and give it back. An empty one changes nothing."""
        if x.numel():
            self.observe(self.granularity.view(x.detach()))
        return x

    def __call__(self, x: Tensor) -> Tensor:
        """The same as `forward`."""
        return self.forward(x)

    @property
    def min_val(self) -> Tensor | None:
        """Lower end of the range, in the granularity's shape; None before any data."""
        ends = self.range()
        return None if ends is None else self.granularity.unview(ends[0])

    @property
    def max_val(self) -> Tensor | None:
        """Upper end of the range, in the granularity's shape; None before any data."""
        ends = self.range()
        return None if ends is None else self.granularity.unview(ends[1])

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)``: float32 and int32, 0-d per tensor or ``(channels,)``; the scale is at least 1e-8.

        Raises:
            RuntimeError: when nothing was observed.
        """
        ends = self.range()
        if ends is None:
            message = f"{type(self).__name__} has observed no data: call forward(x) before calculate_qparams()"
            raise RuntimeError(message)
        low, high = (self.granularity.unview(end) for end in ends)
        return choose_qparams(low, high, self.qtype, symmetric=self.symmetric, smallest_scale=SMALLEST_ACTIVATION_SCALE)
