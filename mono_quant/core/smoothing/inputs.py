"""What is collected of a layer's inputs, for a factor to be found from."""

from abc import ABC, abstractmethod

from torch import Tensor

__all__ = ["Inputs"]


class Inputs(ABC):
    """A `mono_quant.plugin_api.algorithm.Statistic` of the inputs of a linear layer."""

    @abstractmethod
    def __call__(self, x: Tensor) -> None:
        """Take in one input ``(..., K)``; an empty one changes nothing."""

    @property
    @abstractmethod
    def is_usable(self) -> bool:
        """Whether something was seen, all of it finite and not all of it zero."""

    @property
    @abstractmethod
    def fingerprint(self) -> bytes:
        """The same for layers that were given the same."""
