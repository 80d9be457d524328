"""Sources: from what the user has as calibration data to batches."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch

from mono_quant.core.tensors import map_tensors

__all__ = ["Batch", "Source"]


@attrs.frozen(eq=False)
class Batch:
    """The arguments of one call of the model: ``model(*args, **kwargs)``."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = attrs.field(factory=dict)

    def clone(self) -> "Batch":
        """A batch with copies of the tensors, for a model that writes into its inputs."""
        return Batch(map_tensors(torch.clone, self.args), map_tensors(torch.clone, dict(self.kwargs)))


class Source(ABC):
    """Turns one kind of calibration data into batches."""

    @abstractmethod
    def accepts(self, data: object) -> bool:
        """Whether this source can read ``data``. Looks at the object only: draws nothing from it."""

    @abstractmethod
    def batches(self, data: Any) -> Iterator[Batch]:  # noqa: ANN401 - whatever `accepts` said yes to
        """The batches one after another, each made when it is asked for. The data stays as it is.

        No batch shares memory with another. It may be the user's own tensors: what a model writes into them is put
        back when it has run.

        Raises:
            CalibrationError: when the data cannot be read, naming the file or the batch, and saying what to do.
        """

    def length(self, data: Any) -> int | None:  # noqa: ANN401
        """How many batches there are, or None when that cannot be known without drawing them."""
        try:
            return len(data)
        except TypeError:
            return None
