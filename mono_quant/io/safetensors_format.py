"""The ``.safetensors`` format: plain tensors that every reader of the format reads, the manifest in the header."""

import json
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from mono_quant._atomic import replacing
from mono_quant.errors import ArtifactError
from mono_quant.io.json_text import dump_object, parse_object
from mono_quant.io.safetensors_header import read_header
from mono_quant.io.storable import why_not_stored
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.plugin_api.format import Format

__all__ = ["SafetensorsFormat"]

_KEY = "mono_quant"
_LENGTH_BYTES = 8
_TRIES = 100


class SafetensorsFormat(Format):
    """``__metadata__`` is ``{"format": "pt", "mono_quant": <manifest as JSON>}``; the file is mapped, not copied."""

    def can_store(self, artifact: Artifact) -> list[str]:
        """Only dense tensors of the dtypes that the format knows have a place in it."""
        unknown = [
            f"tensor {name!r} is {tensor.dtype}, which has no place in safetensors"
            for name, tensor in artifact.tensors.items()
            if not tensor.is_quantized and not _has_place(tensor.dtype)
        ]
        return [*why_not_stored(artifact.tensors), *unknown]

    def save(self, artifact: Artifact, path: Path) -> None:
        """Write the file."""
        tensors = {name: tensor.detach().contiguous() for name, tensor in artifact.tensors.items()}
        with replacing(path) as temporary:
            try:
                metadata = {} if artifact.manifest is None else {_KEY: dump_object(artifact.manifest)}
                save_file(tensors, temporary, metadata={"format": "pt"} | metadata)
                _order_metadata(temporary)
                read_header(temporary, _KEY)  # what is written can be read again
            except (SafetensorError, ValueError) as error:
                raise ArtifactError(f"{path} cannot be written: {error}") from error

    def load(self, path: Path) -> Artifact:
        """Map the file.

        Raises:
            ArtifactError: when it cannot be read or is not what it claims to be.
        """
        try:
            (text, size), tensors = _read(path)
        except (SafetensorError, RuntimeError, ValueError, OSError) as error:
            raise ArtifactError(f"{path} cannot be read as safetensors: {error}") from error
        try:
            manifest = None if text is None else parse_object(text, size)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error
        return Artifact(tensors, manifest)


def _read(path: Path) -> tuple[tuple[str | None, int], dict[str, Tensor]]:
    """Manifest, size and tensors of one file, while other processes put new files in its place.

    The file is opened by its name several times, so header and tensors could be of two files.
    """
    for _ in range(_TRIES):
        before = _identity(path)
        try:
            header = read_header(path, _KEY)
            with safe_open(path, framework="pt") as file:
                content = header, {name: _aligned(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, RuntimeError, ValueError):
            if _identity(path) == before:
                raise
        else:
            if _identity(path) == before:
                return content
    raise ArtifactError(f"{path} is replaced by other processes faster than it can be read")


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor at an address that its dtype may have: the format does not demand one, and kernels rely on it."""
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def _identity(path: Path) -> tuple[int, int]:
    """What tells a file from the one that takes its name later."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


@cache
def _has_place(dtype: torch.dtype) -> bool:
    """Whether this safetensors writes a dtype, found by trying."""
    try:
        save({"x": torch.empty(0).to(dtype)})
    except (SafetensorError, KeyError, RuntimeError):
        return False
    return True


def _order_metadata(path: Path) -> None:
    """Sort the keys of ``__metadata__``, which the library writes in random order: same input, same bytes."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise ArtifactError(f"{path}: the header of the file cannot be ordered")
        file.seek(_LENGTH_BYTES)
        file.write(text.ljust(length))
