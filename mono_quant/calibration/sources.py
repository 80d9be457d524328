"""The source that the package ships."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from mono_quant.calibration.data import count_batches, iterate_batches
from mono_quant.plugin_api.source import Batch, Source

__all__ = ["DataLoaderSource"]


class DataLoaderSource(Source):
    """A DataLoader, a list of tensors, one tensor, or any iterable of batches; nothing is collected.

    Args:
        batch_fn: turns each item into a batch: a tensor, ``(input, target)``, a mapping or a `Batch`.
    """

    def __init__(self, *, batch_fn: Callable[[Any], Any] | None = None) -> None:
        self._batch_fn = batch_fn

    def accepts(self, data: object) -> bool:
        """Any iterable but text, a mapping, a module and a foreign array: those are sure to be something else."""
        is_foreign_array = hasattr(data, "__array__") and not isinstance(data, Tensor)
        is_other = isinstance(data, str | bytes | Mapping | nn.Module)
        return isinstance(data, Iterable) and not (is_foreign_array or is_other)

    def batches(self, data: Iterable[Any]) -> Iterator[Batch]:
        """Each item as `mono_quant.calibration.data.as_batch` reads it."""
        return iterate_batches(data if self._batch_fn is None else map(self._batch_fn, data))

    def length(self, data: Iterable[Any]) -> int | None:
        """How many batches there are, or None when that cannot be known without drawing them."""
        return count_batches(data)
