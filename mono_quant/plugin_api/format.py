"""Formats: a quantized model as a file."""

from abc import ABC, abstractmethod
from pathlib import Path

from mono_quant.plugin_api.artifact import Artifact

__all__ = ["Format"]


class Format(ABC):
    """Writes and reads artifacts."""

    @abstractmethod
    def can_store(self, artifact: Artifact) -> list[str]:
        """The reasons why this format cannot hold the artifact; empty when it can."""

    @abstractmethod
    def save(self, artifact: Artifact, path: Path) -> None:
        """Write the file: at every moment ``path`` is the old file or the whole new one. Same input, same bytes.

        A new file has the permissions that the umask leaves it, one that is replaced keeps its own. All of this is what
        `mono_quant.plugin_api.replacing` does.

        Raises:
            ArtifactError: when it cannot be written; nothing is left behind then.
        """

    @abstractmethod
    def load(self, path: Path) -> Artifact:
        """Read a file without running anything that is in it.

        Raises:
            ArtifactError: when the file is not what it claims to be.
        """
