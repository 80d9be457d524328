"""Reading rows of stored tensors into memory that is used again.

New memory for each block would take longer than the arithmetic, and a mapped file would count as memory of the process.
"""

import ctypes
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.place import Place

__all__ = ["RowReader"]


class RowReader:
    """Reads from several files, which are open until the block ends."""

    def __init__(self) -> None:
        self._files = ExitStack()
        self._open: dict[Path, FileIO] = {}
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def rows(self, place: Place, start: int, stop: int) -> Tensor:
        """Some rows of a tensor, until the next are asked for.

        Raises:
            ArtifactError: naming the file that cannot be read, or ends too early.
        """
        size = (stop - start) * place.row_bytes
        if self._buffer.numel() < size:
            self._buffer = torch.empty(0, dtype=torch.uint8)  # not both at once
            self._buffer = torch.empty(size, dtype=torch.uint8)
        try:
            self._fill(place.path, place.offset + start * place.row_bytes, size)
        except OSError as error:
            raise ArtifactError(f"{place.path} cannot be read: {error}") from error
        return self._buffer[:size].view(place.info.dtype).view(stop - start, *place.info.shape[1:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def _fill(self, path: Path, offset: int, size: int) -> None:
        if path not in self._open:
            self._open[path] = self._files.enter_context(path.open("rb", buffering=0))
        file = self._open[path]
        file.seek(offset)
        room = memoryview((ctypes.c_char * size).from_address(self._buffer.data_ptr())) if size else memoryview(b"")
        while len(room):
            count = file.readinto(room)
            if not count:
                raise ArtifactError(f"{path} is shorter than it was: it changed while it was read")
            room = room[count:]
