"""Reading NumPy's files: mapped where that is possible, and never unpickled."""

from pathlib import Path

import numpy as np
from mono_quant.errors import CalibrationError

from mono_quant_numpy.arrays import Array

__all__ = ["SUFFIXES", "has_known_suffix", "is_archive", "read"]

SUFFIXES = (".npy", ".npz")
_ARCHIVE = b"PK"
"""What zip files begin with, also empty ones."""


def has_known_suffix(data: object) -> bool:
    """Whether it is a path that ends as NumPy's files do."""
    return isinstance(data, str | Path) and Path(data).suffix.lower() in SUFFIXES


def is_archive(data: object) -> bool:
    """Whether it is the path of a file of several arrays."""
    return isinstance(data, str | Path) and Path(data).suffix.lower() == ".npz"


def read(path: str | Path) -> Array | dict[str, Array]:
    """The array of a ``.npy`` file, mapped read-only, or those of a ``.npz`` file by name, in memory.

    Raises:
        CalibrationError: when there is no such file, or it is damaged, another kind of file, or holds pickled objects.
    """
    try:
        with Path(path).open("rb") as file:  # np.load leaves a path open that is no archive after all
            if file.read(len(_ARCHIVE)) != _ARCHIVE:
                mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
                return mapped
            file.seek(0)
            with np.load(file, allow_pickle=False) as found:
                return {name: found[name] for name in found.files}
    except FileNotFoundError:
        raise CalibrationError(f"there is no file {path}: give the path of a {' or '.join(SUFFIXES)} file") from None
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # numpy parses headers that may hold anything, and raises whatever comes of it
        raise CalibrationError(
            f"{path} is damaged, no file of NumPy, or holds pickled objects, which are never loaded; write it with "
            f"np.save or np.savez from arrays of numbers ({type(error).__name__}: {error})"
        ) from error
