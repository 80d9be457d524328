"""The ``.safetensors`` format: plain tensors that every reader of the format reads, the manifest in the header."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from mono_quant.errors import ArtifactError
from mono_quant.io.atomic import replacing
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.plugin_api.format import Format

__all__ = ["SafetensorsFormat"]

_KEY = "mono_quant"
_LENGTH_BYTES = 8


class SafetensorsFormat(Format):
    """``__metadata__`` is ``{"format": "pt", "mono_quant": <manifest as JSON>}``; the file is mapped, not copied."""

    def can_store(self, artifact: Artifact) -> list[str]:
        """Sparse and quantized-dtype tensors have no place in the format."""
        return [
            f"tensor {name!r} is {tensor.layout}, {tensor.dtype}: only dense plain tensors can be stored"
            for name, tensor in artifact.tensors.items()
            if tensor.is_sparse or tensor.is_quantized or tensor.is_meta
        ]

    def save(self, artifact: Artifact, path: Path) -> None:
        """Write the file."""
        metadata = {"format": "pt"}
        if artifact.manifest is not None:
            metadata[_KEY] = json.dumps(artifact.manifest, sort_keys=True)
        tensors = {name: tensor.detach().contiguous() for name, tensor in artifact.tensors.items()}
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
            _order_metadata(temporary)

    def load(self, path: Path) -> Artifact:
        """Map the file.

        Raises:
            ArtifactError: when it cannot be read or is not what it claims to be.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"{path} cannot be read as safetensors: {error}") from error
        try:
            manifest = json.loads(metadata[_KEY]) if _KEY in metadata else None
        except json.JSONDecodeError as error:
            raise ArtifactError(f"{path}: its manifest is not JSON: {error}") from error
        if manifest is not None and not isinstance(manifest, dict):
            raise ArtifactError(f"{path}: its manifest is not a JSON object")
        return Artifact(tensors, manifest)


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
