"""The ``.safetensors`` format: plain tensors that every reader of the format reads, the manifest in the header."""

import json
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from mono_quant.errors import ArtifactError
from mono_quant.io.atomic import replacing
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
        return [
            f"tensor {name!r} is {tensor.layout}, {tensor.dtype} on {tensor.device}: it has no place in safetensors"
            for name, tensor in artifact.tensors.items()
            if tensor.layout is not torch.strided or tensor.is_meta or not _has_place(tensor.dtype)
        ]

    def save(self, artifact: Artifact, path: Path) -> None:
        """Write the file."""
        metadata = {"format": "pt"}
        if artifact.manifest is not None:
            metadata[_KEY] = json.dumps(artifact.manifest, sort_keys=True)
        tensors = {name: tensor.detach().contiguous() for name, tensor in artifact.tensors.items()}
        with replacing(path) as temporary:
            try:
                save_file(tensors, temporary, metadata=metadata)
            except SafetensorError as error:
                raise ArtifactError(f"{path} cannot be written: {error}") from error
            _order_metadata(temporary)

    def load(self, path: Path) -> Artifact:
        """Map the file.

        Raises:
            ArtifactError: when it cannot be read or is not what it claims to be.
        """
        try:
            metadata, tensors = _read(path)
        except (SafetensorError, RuntimeError, OSError) as error:
            raise ArtifactError(f"{path} cannot be read as safetensors: {error}") from error
        try:
            manifest = json.loads(metadata[_KEY]) if _KEY in metadata else None
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{path}: its manifest is not JSON: {error}") from error
        if manifest is not None and not isinstance(manifest, dict):
            raise ArtifactError(f"{path}: its manifest is not a JSON object")
        return Artifact(tensors, manifest)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """``__metadata__`` and tensors of one file, while other processes put new files in its place.

    The library opens a file by its name several times, so header and tensors could be of two files.
    """
    for _ in range(_TRIES):
        before = _identity(path)
        try:
            with safe_open(path, framework="pt") as file:
                content = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, RuntimeError):
            if _identity(path) == before:
                raise
        else:
            if _identity(path) == before:
                return content
    raise ArtifactError(f"{path} is replaced by other processes faster than it can be read")


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
