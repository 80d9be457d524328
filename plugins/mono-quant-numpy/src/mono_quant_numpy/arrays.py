"""Arrays of which each row is a sample, checked before the first is drawn."""

from collections.abc import Mapping
from typing import Any, Self

import attrs
import numpy as np
from mono_quant.errors import CalibrationError

from mono_quant_numpy.tensors import why_no_tensor

__all__ = ["Array", "Arrays"]

Array = np.ndarray[Any, Any]


@attrs.frozen(kw_only=True, eq=False)
class Arrays:
    """Arrays of one length.

    Args:
        by_name: each ``(length, ...)``; one that has no name goes by ``""``.
        are_named: whether the names are those of keyword arguments.
    """

    by_name: dict[str, Array]
    are_named: bool

    @property
    def length(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.by_name.values())))

    @classmethod
    def one(cls, array: Array, what: str) -> Self:
        """One array as the input.

        Raises:
            CalibrationError: when it has no rows that a tensor can hold.
        """
        _check(array, what)
        return cls(by_name={"": array}, are_named=False)

    @classmethod
    def named(cls, arrays: Mapping[Any, Any], what: str) -> Self:
        """Keyword arguments.

        Raises:
            CalibrationError: as `one`, or when a name is no text, or their lengths differ.
        """
        for name, array in arrays.items():
            if not isinstance(name, str):
                raise CalibrationError(f"{what} has the key {name!r}: keys must be names of the model's arguments")
            _check(array, f"array {name!r} of {what}")
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
            raise CalibrationError(f"the arrays of {what} differ in length: {shown} rows; give as many rows of each")
        return cls(by_name=dict(arrays), are_named=True)

    @classmethod
    def of_file(cls, arrays: Mapping[str, Array], what: str) -> Self:
        """What a ``.npz`` file holds: one array is the input, several are keyword arguments.

        Raises:
            CalibrationError: as `named`, or when there is none.
        """
        if not arrays:
            raise CalibrationError(f"{what} holds no arrays")
        checked = cls.named(arrays, what)
        return attrs.evolve(checked, are_named=len(arrays) > 1)


def _check(array: object, what: str) -> None:
    if not isinstance(array, np.ndarray):
        raise CalibrationError(f"{what} is a {type(array).__name__}, not a NumPy array: convert it with np.asarray")
    shape, dtype = list(array.shape), array.dtype
    if isinstance(array, np.ma.MaskedArray):
        raise CalibrationError(f"{what} {shape} is masked, and tensors have no masks: fill it with .filled(value)")
    if (why := why_no_tensor(dtype)) is not None:
        raise CalibrationError(f"{what} {shape} has dtype {dtype}: {why}")
    if array.ndim == 0:
        raise CalibrationError(f"{what} has no axes (dtype {dtype}): rows are samples, so it needs at least one axis")
    if array.size == 0:
        raise CalibrationError(f"{what} is empty: its shape is {shape}; give at least one sample")
