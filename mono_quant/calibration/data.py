"""From what users have as calibration data to the arguments of the model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from mono_quant.errors import CalibrationError
from mono_quant.plugin_api.source import Batch

__all__ = ["CalibrationData", "as_batch", "count_batches", "describe", "iterate_batches"]

CalibrationData = list[Tensor] | DataLoader[Any]
"""What the earliest interface took. `iterate_batches` takes any iterable."""


def iterate_batches(data: Iterable[Any]) -> Iterator[Batch]:
    """The batches of a DataLoader, a list or any iterable, each made when it is asked for. A tensor is one batch."""
    for number, item in enumerate([data] if isinstance(data, Tensor) else data):
        yield as_batch(item, f"calibration batch {number}")


def count_batches(data: object) -> int | None:
    """How many batches `iterate_batches` will give, or None when that cannot be known without drawing them."""
    if isinstance(data, Tensor):
        return 1
    try:
        return len(data)  # type: ignore[arg-type]
    except TypeError:
        return None


def as_batch(item: object, what: str = "a calibration batch") -> Batch:
    """One item of the data as arguments of the model.

    =======================================  ========================================
    item                                     call
    =======================================  ========================================
    tensor                                   ``model(item)``
    ``(input, target)``, any tuple or list   as its first element says
    mapping                                  ``model(**item)``
    `Batch`                                  ``model(*item.args, **item.kwargs)``
    =======================================  ========================================

    Raises:
        CalibrationError: when it is none of these.
    """
    if isinstance(item, Batch):
        return item
    if isinstance(item, Mapping):
        return Batch(kwargs={str(key): value for key, value in item.items()})
    if isinstance(item, tuple | list) and item:
        return as_batch(item[0], what)
    if isinstance(item, Tensor):
        return Batch(args=(item,))
    message = (
        f"{what} must be a tensor, (input, target), a mapping of keyword arguments or a mono_quant Batch, "
        f"got {describe(item)}; give batch_fn= to turn your items into one of these"
        f"{', for arrays batch_fn=torch.from_numpy' if hasattr(item, '__array__') else ''}"
    )
    raise CalibrationError(message)


def describe(item: object) -> str:
    """The structure of a batch in one line, for error messages.

    >>> import torch
    >>> describe({"x": torch.zeros(2, 3), "n": [1, 2]})
    "{'x': float32[2, 3], 'n': [int, int]}"
    """
    if isinstance(item, Tensor):
        return f"{str(item.dtype).removeprefix('torch.')}{list(item.shape)}"
    if isinstance(item, Batch):
        shown = [describe(value) for value in item.args] + [f"{k}={describe(v)}" for k, v in item.kwargs.items()]
        return f"({', '.join(shown)})"
    if isinstance(item, Mapping):
        return "{" + ", ".join(f"{key!r}: {describe(value)}" for key, value in item.items()) + "}"
    if isinstance(item, list | tuple):
        inner = ", ".join(map(describe, item))
        return f"[{inner}]" if isinstance(item, list) else f"({inner})"
    return type(item).__name__


def _normalize_calibration_data(calibration_data: Iterable[Any]) -> list[Tensor]:
    """All inputs as a list of tensors: a list as it is, of a DataLoader's batch ``(input, target)`` the input.

    This is the one place that collects the data; everything else streams it.

    Raises:
        CalibrationError: when an item has no single input tensor.
    """
    tensors = []
    for number, batch in enumerate(iterate_batches(calibration_data)):
        if batch.kwargs or len(batch.args) != 1 or not isinstance(batch.args[0], Tensor):
            raise CalibrationError(f"batch {number} is {describe(batch)}, not a single input tensor")
        tensors.append(batch.args[0])
    return tensors


def _limit_samples(tensors: Sequence[Tensor], num_samples: int) -> list[Tensor]:
    """The first ``num_samples`` of them, or all when there are fewer."""
    return list(islice(tensors, num_samples))
