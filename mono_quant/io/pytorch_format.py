"""The ``.pt`` format: a dictionary of tensors and the manifest as JSON text. No pickled code, on neither side."""

import json
from pathlib import Path

import torch
from torch import Tensor

from mono_quant.errors import ArtifactError
from mono_quant.io.atomic import replacing
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.plugin_api.format import Format

__all__ = ["PytorchFormat"]

_KEY = "mono_quant"


class PytorchFormat(Format):
    """``torch.save({"tensors": {...}, "mono_quant": "<manifest as JSON>"})``; always read with ``weights_only=True``.

    A file that holds a bare ``state_dict`` is read too.
    """

    def can_store(self, artifact: Artifact) -> list[str]:
        """Tensors without data cannot be written, and only dense plain ones are read back as they were."""
        return [
            f"tensor {name!r} is {tensor.layout}, {tensor.dtype} on {tensor.device}: only dense tensors can be stored"
            for name, tensor in artifact.tensors.items()
            if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta
        ]

    def save(self, artifact: Artifact, path: Path) -> None:
        """Write the file."""
        manifest = None if artifact.manifest is None else json.dumps(artifact.manifest, sort_keys=True)
        tensors = {name: _alone(tensor.detach()) for name, tensor in artifact.tensors.items()}
        # An open file, because of a path torch writes the random name into the file.
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save({"tensors": tensors, _KEY: manifest}, file)

    def load(self, path: Path) -> Artifact:
        """Read the file.

        Raises:
            ArtifactError: when it cannot be read, or holds anything but tensors.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            is_ours = isinstance(content, dict) and set(content) == {"tensors", _KEY}
            tensors, text = (content["tensors"], content[_KEY]) if is_ours else (content, None)
            manifest = None if text is None else json.loads(text)
        except Exception as error:  # torch's unpickler raises anything on a damaged file
            raise ArtifactError(f"{path} cannot be read as a file of plain tensors: {error}") from error
        if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
            raise ArtifactError(f"{path} holds something else than tensors by name")
        if manifest is not None and not isinstance(manifest, dict):
            raise ArtifactError(f"{path}: its manifest is not a JSON object")
        return Artifact(tensors, manifest)


def _alone(tensor: Tensor) -> Tensor:
    """The tensor with memory of its own size: torch writes all the memory that a view is a part of."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
