"""Algorithms: rewrites of the float model that make it quantize better and keep its function."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import nn

from mono_quant.plugin_api.plan import Plan, Rewrite

__all__ = ["Algorithm", "DataFlow"]


class DataFlow(Protocol):
    """What was watched while the calibration batches ran: which module's output went where."""

    def only_consumer(self, name: str) -> str | None:
        """The one module that received the output of module ``name``, unchanged and alone, in every batch.

        None when anything else saw that output, when it left the model, when either module ran twice in a batch, when
        the consumer's own tensors were read from outside it, or when the flow cannot be known.
        """
        ...

    def output_ndim(self, name: str) -> int | None:
        """How many axes the one tensor had that module ``name`` gave, in every batch; None when that differed."""
        ...


class Algorithm(ABC):
    """Finds rewrites from the watched data flow and carries them out, layer by layer, when layers are converted."""

    @abstractmethod
    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        """The rewrites that are proven to keep the model's function. Changes nothing."""

    @abstractmethod
    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """New modules in place of the rewrite's layers, by name; the old ones stay as they are.

        Loading a file repeats this on the model that the file is loaded into, to get the same structure.
        """
