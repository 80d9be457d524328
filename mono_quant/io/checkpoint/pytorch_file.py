"""A file of ``torch.save``, mapped, and mapped anew when much of it has become resident."""

import os
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.checkpoint import Checkpoint
from mono_quant.io.checkpoint.plain_tensors import find_ties, plain_tensors
from mono_quant.io.checkpoint.tensor_info import TensorInfo
from mono_quant.io.checkpoint.training import find_training_part
from mono_quant.io.limits import opened
from mono_quant.io.plain_file import refuse_other_than_plain

__all__ = ["open_pytorch"]

_RESIDENT = 2**25
"""Bytes read from one mapping before it is dropped: what was touched counts as memory of the process until then."""

_OURS = {"tensors", "mono_quant"}


def open_pytorch(path: Path) -> Checkpoint:
    """A ``state_dict``, also one under a single key, or what ``save_pytorch`` wrote; no code in it is run.

    A file that holds a ``state_dict`` beside other things, as those of training do, is refused: which of its parts
    is meant, and that the others are lost, is for its owner to say.

    Raises:
        ArtifactError: naming the file, and the tensor or key that is at fault.
    """
    file = _MappedFile(path)
    infos = {name: TensorInfo.of(tensor) for name, tensor in file.tensors.items()}
    with ExitStack() as closing:
        closing.callback(file.close)
        return Checkpoint(
            str(path),
            infos,
            reader=file.read,
            size=file.size,
            metadata=file.metadata,
            ties=find_ties(file.tensors),
            closing=closing.pop_all(),
        )


class _MappedFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._status = _identity(path.stat())
        try:
            with opened(path) as (file, self.size):
                refuse_other_than_plain(file, self.size)
        except Exception as error:  # a damaged file, not foreseen
            part = find_training_part(path)
            advice = f". {_advise(part)}" if part else ""
            raise ArtifactError(f"{path} cannot be read as a file of plain tensors: {error}{advice}") from error
        if not zipfile.is_zipfile(path):
            raise ArtifactError(f"{path} is in the format of torch before 1.6: load it with torch, and save it again")
        self.tensors: dict[str, Tensor] = {}
        self._map()

    def read(self, name: str) -> Tensor:
        nbytes = self.tensors[name].nbytes
        if self._touched and self._touched + nbytes > _RESIDENT:
            self._map()
        self._touched += nbytes
        return self.tensors[name]

    def close(self) -> None:
        self.tensors = {}

    def _map(self) -> None:
        self.close()
        try:
            content = torch.load(self._path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # torch's unpickler raises anything on a damaged file
            raise ArtifactError(f"{self._path} cannot be read as a file of plain tensors: {error}") from error
        if _identity(self._path.stat()) != self._status:
            raise ArtifactError(f"{self._path} was replaced while it was read")
        values, self.metadata = _unwrap(content, self._path)
        self.tensors = plain_tensors(values, str(self._path))
        self._touched = 0


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _unwrap(content: Any, path: Path) -> tuple[dict[str, object], dict[str, str]]:  # noqa: ANN401 - whatever was saved
    """The tensors, not yet checked, and the metadata."""
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} holds a {type(content).__name__}, not tensors by name")
    if set(content) == _OURS and isinstance(content["tensors"], dict):
        text = content["mono_quant"]
        if not isinstance(text, str | None):
            raise ArtifactError(f"{path}: 'mono_quant' is a {type(text).__name__}, not the text of a manifest")
        return content["tensors"], {} if text is None else {"mono_quant": text}
    parts = [key for key, value in content.items() if _are_tensors(value)]
    if len(content) == len(parts) == 1:
        return content[parts[0]], {}
    if parts:
        raise ArtifactError(
            f"{path} holds tensors by name under {' and '.join(map(repr, parts))}, and has the keys "
            f"{', '.join(map(repr, content))}. {_advise(parts[0])}"
        )
    return content, {}


def _advise(part: str) -> str:
    return (
        f"If it is a checkpoint of training, save its weights alone: torch.save(torch.load(path)[{part!r}], new_path), "
        "and give that file"
    )


def _are_tensors(value: object) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(inner, Tensor) for inner in value.values())
