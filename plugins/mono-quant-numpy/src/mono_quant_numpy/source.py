"""From arrays and files of arrays to batches."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mono_quant import Batch
from mono_quant.errors import CalibrationError, ConfigurationError
from mono_quant.plugin_api import Source

from mono_quant_numpy.arrays import Arrays
from mono_quant_numpy.files import SUFFIXES, has_known_suffix, is_archive, read
from mono_quant_numpy.tensors import FLOAT_DTYPES, as_tensor

__all__ = ["NumpySource"]


class NumpySource(Source):
    """Rows of arrays as batches: of one array as the input, of several as keyword arguments.

    Args:
        batch_size: how many rows a batch has; the last one has what is left.
        float_dtype: name of the torch dtype that float arrays become; None keeps theirs.

    Raises:
        ConfigurationError: when an option cannot be meant.
    """

    def __init__(self, *, batch_size: int = 32, float_dtype: str | None = "float32") -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigurationError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        if float_dtype is not None and float_dtype not in tuple(FLOAT_DTYPES):
            known = ", ".join(map(repr, FLOAT_DTYPES))
            raise ConfigurationError(f"float_dtype must be one of {known}, or None, got {float_dtype!r}")
        self.batch_size = batch_size
        self._float_dtype = None if float_dtype is None else FLOAT_DTYPES[float_dtype]

    def accepts(self, data: object) -> bool:
        """An array, a mapping with an array in it, or a path that ends as NumPy's files do, whether it exists or not.

        What is wrong with them is said when they are read: no other source could do better.
        """
        if isinstance(data, Mapping):
            return any(isinstance(value, np.ndarray) for value in data.values())
        return isinstance(data, np.ndarray) or has_known_suffix(data)

    def batches(self, data: Any) -> Iterator[Batch]:  # noqa: ANN401 - whatever `accepts` said yes to
        """The rows, ``batch_size`` at a time, in tensors with memory of their own.

        Raises:
            CalibrationError: when the data cannot be read, or not be given to a model.
        """
        arrays = _arrays(data)
        for start in range(0, arrays.length, self.batch_size):
            rows = slice(start, start + self.batch_size)
            tensors = {name: as_tensor(array[rows], self._float_dtype) for name, array in arrays.by_name.items()}
            yield Batch(kwargs=tensors) if arrays.are_named else Batch(args=tuple(tensors.values()))

    def length(self, data: Any) -> int | None:  # noqa: ANN401
        """How many batches there are; None for a ``.npz`` file, of which that is known only when it is read.

        Raises:
            CalibrationError: as `batches`.
        """
        return None if is_archive(data) else -(-_arrays(data).length // self.batch_size)


def _arrays(data: object) -> Arrays:
    if isinstance(data, np.ndarray):
        return Arrays.one(data, "the array")
    if isinstance(data, Mapping):
        return Arrays.named(data, "the mapping")
    if not isinstance(data, str | Path):
        raise CalibrationError(
            f"the source 'numpy' reads an array, a mapping of names to arrays, or the path of a "
            f"{' or '.join(SUFFIXES)} file, got {type(data).__name__}"
        )
    found = read(data)
    return Arrays.one(found, str(data)) if isinstance(found, np.ndarray) else Arrays.of_file(found, str(data))
