"""The keys and tensor records of a file, walked over before `gguf.GGUFReader` sees them.

The reader takes lengths as they stand there, and where a file ends early it goes on counting. Here each must fit.
"""

from pathlib import Path
from typing import BinaryIO

from mono_quant.errors import ArtifactError

__all__ = ["check_header"]

_START = 24
_MOST = 100_000
"""Tensors, and keys, in one file: each costs about a kilobyte of Python objects, whatever the file says."""
_MOST_AXES = 4
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by its type; texts and arrays have others."""
_TEXT, _ARRAY = 8, 9


def check_header(path: Path) -> None:
    """Refuse what is no GGUF file, or says more than it has.

    Raises:
        ArtifactError: saying what is wrong.
        OSError: when it cannot be read.
    """
    if not path.is_file():
        raise ArtifactError("there is no such file, or it is a folder, pipe or device")
    with path.open("rb") as file:
        start = file.read(_START)
        if len(start) < _START or start[:4] != b"GGUF":
            raise ArtifactError("it does not begin as one")
        if start[4:6] == b"\0\0":
            raise ArtifactError("its numbers are big-endian, which is not read")
        tensors, keys = (int.from_bytes(start[at : at + 8], "little") for at in (8, 16))
        if tensors > _MOST or keys > _MOST:
            raise ArtifactError(f"it claims {tensors:,} tensors and {keys:,} keys; {_MOST:,} of each are the most")
        walk = _Walk(file, path.stat().st_size)
        for _ in range(keys):
            walk.text()
            walk.value(walk.number(4))
        for _ in range(tensors):
            walk.text()
            axes = walk.number(4)
            if axes > _MOST_AXES:
                raise ArtifactError(f"a tensor has {axes} axes, more than {_MOST_AXES}")
            walk.skip(8 * axes + 12)


class _Walk:
    """A place in a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def number(self, size: int) -> int:
        found = self._file.read(size)
        if len(found) < size:
            raise ArtifactError("it is cut off in its header")
        return int.from_bytes(found, "little")

    def skip(self, size: int) -> None:
        if size > self._size - self._file.tell():
            raise ArtifactError("it is cut off in its header, or claims more than it has")
        self._file.seek(size, 1)

    def text(self) -> None:
        self.skip(self.number(8))

    def value(self, kind: int) -> None:
        if kind in _SIZES:
            self.skip(_SIZES[kind])
        elif kind == _TEXT:
            self.text()
        elif kind == _ARRAY:
            inner, count = self.number(4), self.number(8)
            if inner in _SIZES:
                self.skip(_SIZES[inner] * count)
            elif inner == _TEXT and 8 * count <= self._size:
                for _ in range(count):
                    self.text()
            else:
                raise ArtifactError(f"a key has an array of type {inner}, of {count:,}")
        else:
            raise ArtifactError(f"a key has the type {kind}, which does not exist")
