"""What lies in a foreign checkpoint: tensors and the texts of its headers, of one file or of several with an index."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.index import INDEX_SUFFIX, read_index
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.plugin_api.format import Format

__all__ = ["ForeignFormat", "files_of", "metadata_of", "tensors_of"]

_MODEL = "model.safetensors"


class ForeignFormat(Format):
    """A format of others, which is read alone."""

    def can_store(self, artifact: Artifact) -> list[str]:
        """Never."""
        del artifact
        return ["checkpoints of other quantizers are read, not written: choose another format"]

    def save(self, artifact: Artifact, path: Path) -> None:
        """Refuse.

        Raises:
            ArtifactError: always.
        """
        raise ArtifactError(f"{path} cannot be written: {self.can_store(artifact)[0]}")


def files_of(path: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the path itself, those of an index, or those of a folder.

    Raises:
        ArtifactError: when there are none, or the index is damaged.
    """
    if path.is_dir():
        inside = [path / _MODEL, path / f"{_MODEL}.index.json"]
        found = next((one for one in inside if one.exists()), None)
        if found is None:
            raise ArtifactError(f"{path} has neither {inside[0].name} nor {inside[1].name}: give the path of a file")
        return files_of(found)
    if path.name.endswith(INDEX_SUFFIX):
        return [path.parent / name for name in sorted(set(read_index(path).weight_map.values()))]
    return [path]


def tensors_of(files: list[Path]) -> dict[str, Tensor]:
    """All tensors by name.

    Raises:
        ArtifactError: when a file cannot be read, or two have a tensor of one name.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        more = SafetensorsFormat().load(file).tensors
        if twice := sorted(set(tensors) & set(more)):
            raise ArtifactError(f"{file} has the tensor {twice[0]!r}, which another file of the checkpoint has too")
        tensors.update(more)
    return tensors


def metadata_of(file: Path) -> Mapping[str, str]:
    """The texts in the header of a safetensors file.

    Raises:
        ArtifactError: when it cannot be read.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{file} cannot be read as safetensors: {error}") from error
