"""The ``.pt`` format: a dictionary of tensors and the manifest as JSON text. No pickled code, on neither side."""

import json
import pickle
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
        """Tensors without data cannot be written."""
        return [f"tensor {name!r} is on the meta device" for name, tensor in artifact.tensors.items() if tensor.is_meta]

    def save(self, artifact: Artifact, path: Path) -> None:
        """Write the file."""
        manifest = None if artifact.manifest is None else json.dumps(artifact.manifest, sort_keys=True)
        with replacing(path) as temporary:
            torch.save({"tensors": dict(artifact.tensors), _KEY: manifest}, temporary)

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
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{path} cannot be read as a file of plain tensors: {error}") from error
        if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
            raise ArtifactError(f"{path} holds something else than tensors by name")
        return Artifact(tensors, manifest)
