"""The ``.pt`` format: a dictionary of tensors and the manifest as JSON text. No pickled code, on neither side."""

from pathlib import Path

import torch
from torch import Tensor

from mono_quant._atomic import replacing
from mono_quant.errors import ArtifactError
from mono_quant.io.json_text import dump_object, parse_object
from mono_quant.io.limits import opened
from mono_quant.io.plain_file import read_plain, refuse_other_than_plain
from mono_quant.io.storable import why_not_stored
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
        return why_not_stored(artifact.tensors)

    def save(self, artifact: Artifact, path: Path) -> None:
        """Write the file."""
        tensors = {name: _alone(tensor.detach()) for name, tensor in artifact.tensors.items()}
        with replacing(path) as temporary:
            try:
                manifest = None if artifact.manifest is None else dump_object(artifact.manifest)
                # An open file, because of a path torch writes the random name into the file.
                with temporary.open("wb") as file:
                    torch.save({"tensors": tensors, _KEY: manifest}, file)
                with opened(temporary) as (written, size):
                    refuse_other_than_plain(written, size)  # what is written can be read again
            except ValueError as error:
                raise ArtifactError(f"{path} cannot be written: {error}") from error

    def load(self, path: Path) -> Artifact:
        """Read the file.

        Raises:
            ArtifactError: when it cannot be read, or holds anything but tensors.
        """
        try:
            content = read_plain(path)
        except Exception as error:  # torch raises anything on a damaged file
            raise ArtifactError(f"{path} cannot be read as a file of plain tensors: {error}") from error
        is_ours = isinstance(content, dict) and set(content) == {"tensors", _KEY}
        tensors, text = (content["tensors"], content[_KEY]) if is_ours else (content, None)
        if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
            raise ArtifactError(f"{path} holds something else than tensors by name")
        if not isinstance(text, str | None):
            raise ArtifactError(f"{path}: its manifest is not a text")
        try:
            manifest = None if text is None else parse_object(text, path.stat().st_size)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error
        return Artifact(dict(tensors), manifest)


def _alone(tensor: Tensor) -> Tensor:
    """The tensor with memory of its own size: torch writes all the memory that a view is a part of."""
    plain = tensor.resolve_conj().resolve_neg()
    return plain if plain.untyped_storage().nbytes() == plain.nbytes else plain.clone()
