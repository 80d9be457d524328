"""The rows of a batch: how many there are, and the same batch with more or fewer."""

import torch
from torch import Tensor

from mono_quant.core.tensors import iter_tensors, map_tensors
from mono_quant.errors import CalibrationError
from mono_quant.plugin_api.source import Batch

__all__ = ["resized", "rows_of"]


def resized(batch: Batch, size: int) -> Batch:
    """A batch of ``size`` rows: those of the given one, from the first on and over again.

    Rows are what the first dimension of its first tensor counts. Other tensors with as many are cut or repeated
    likewise, those with another number, as a mask for all rows has, are left.

    Raises:
        CalibrationError: when it has no rows.
    """
    rows = rows_of(batch)
    if size == rows:
        return batch

    def resize(tensor: Tensor) -> Tensor:
        if not tensor.ndim or len(tensor) != rows:
            return tensor
        return tensor[torch.arange(size, device=tensor.device) % rows]

    return Batch(map_tensors(resize, batch.args), map_tensors(resize, dict(batch.kwargs)))


def rows_of(batch: Batch) -> int:
    """How many rows a batch has.

    Raises:
        CalibrationError: when it has none.
    """
    rows = next((len(tensor) for tensor in iter_tensors((batch.args, batch.kwargs)) if tensor.ndim), 0)
    if not rows:
        raise CalibrationError("the batch has no tensor with rows: its size cannot be known or changed")
    return rows
