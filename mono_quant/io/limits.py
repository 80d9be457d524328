"""How much a file may claim: what is spent on reading it is in proportion to its size, never to what it says."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mono_quant.errors import ArtifactError

__all__ = ["MOST_DIMENSIONS", "MOST_TENSORS", "largest_text", "most_values", "opened"]

MOST_TENSORS = 100_000
"""In one file. Each costs about a kilobyte of Python and C++ objects, whatever its own size."""

MOST_DIMENSIONS = 64
"""As torch's own limit for what most operators take."""

_FREE_TEXT = 2**24
_FREE_VALUES = 300_000


def largest_text(size: int) -> int:
    """Bytes of everything but tensors that a file of ``size`` bytes may have: 16 MiB, and an eighth of the file."""
    return _FREE_TEXT + size // 8


def most_values(size: int) -> int:
    """How many values (numbers, strings, lists, ...) a file of ``size`` bytes may hold beside its tensors.

    A value may take 200 bytes of memory, and only two of the file.
    """
    return _FREE_VALUES + size // 64


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A file to read from, and its size. A pipe or a device, which could be read for ever, is refused.

    Raises:
        ArtifactError: when it is no regular file.
        OSError: when it cannot be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ArtifactError("it is a folder, pipe or device, not a file")
    with path.open("rb") as file:
        # Of what was opened: another process may have put a new file in its place.
        yield file, os.fstat(file.fileno()).st_size
