"""What is measured, whichever model it is."""

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, TypeAlias, cast

import attrs
from torch import Tensor, nn

__all__ = ["Inputs", "Workload", "WorkloadFile"]

# A model's positional arguments; each model here gives one tensor back.
Inputs: TypeAlias = tuple[Tensor, ...]

_SAMPLES = 32
_FEWEST_BATCHES = 4
_HELD_BACK = 4


class WorkloadFile(Protocol):
    """The functions of a file that makes one model."""

    def load(self) -> nn.Module:
        """The model in eval mode, the same at each call."""

    def inputs(self, shape: tuple[int, ...], count: int, *, held_back: bool) -> list[Inputs]:
        """So many inputs; those that are held back share nothing with the others."""


@attrs.frozen
class Workload:
    """A model and the shapes it is run at.

    The model's own file is imported on first use, since it may import heavy packages.

    Args:
        name: also that of its file.
        title: for people.
        cases: name → shape of the input, the batch first.
    """

    name: str
    title: str
    cases: Mapping[str, tuple[int, ...]]

    def load(self) -> nn.Module:
        """The model in eval mode, the same at each call."""
        return self._file.load()

    def calibration(self, case: str) -> list[Inputs]:
        """32 samples in batches of the case's shape, four batches at least."""
        shape = self.cases[case]
        return self._file.inputs(shape, max(_FEWEST_BATCHES, _SAMPLES // shape[0]), held_back=False)

    def held_back(self, case: str) -> list[Inputs]:
        """Four batches that share nothing with `calibration`."""
        return self._file.inputs(self.cases[case], _HELD_BACK, held_back=True)

    @property
    def _file(self) -> WorkloadFile:
        return cast("WorkloadFile", import_module(f".{self.name}", __package__))
