"""The ``.safetensors.index.json`` format: a model in several safetensors files. It is read here; see `can_store`."""

from pathlib import Path

from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint import open_checkpoint
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.plugin_api.format import Format

__all__ = ["ShardedSafetensorsFormat"]


class ShardedSafetensorsFormat(Format):
    """The layout of Hugging Face: ``model.safetensors.index.json`` beside its shards, the manifest in each of them."""

    def can_store(self, artifact: Artifact) -> list[str]:
        """Never: a model that is in memory fits one file."""
        del artifact
        reason = (
            "a model in memory is saved as one .safetensors file; QuantizedCheckpoint.save writes several, for a path "
            "that ends in .safetensors, and max_shard_bytes"
        )
        return [reason]

    def save(self, artifact: Artifact, path: Path) -> None:
        """Refuse.

        Raises:
            ArtifactError: always.
        """
        raise ArtifactError(f"{path} cannot be written: {self.can_store(artifact)[0]}")

    def load(self, path: Path) -> Artifact:
        """Read all shards.

        Raises:
            ArtifactError: when one of them is missing or damaged.
        """
        with open_checkpoint(path) as checkpoint:
            return Artifact({name: checkpoint.read(name) for name in checkpoint}, checkpoint.manifest())
