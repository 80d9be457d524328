"""Looking into a saved file without a model to load it into."""

from collections.abc import Iterable
from pathlib import Path

from mono_quant._plugins.formats import format_for
from mono_quant._plugins.manager import PluginManager
from mono_quant.component import Wanted
from mono_quant.errors import ArtifactError
from mono_quant.io.manifest import Manifest, read_manifest
from mono_quant.io.naming import naming
from mono_quant.plugin_api.artifact import Artifact

__all__ = ["manifest_of", "read_artifact"]


def read_artifact(
    path: str | Path,
    plugins: Iterable[object] = (),
    format: Wanted | None = None,  # noqa: A002 - the word that users know
) -> Artifact:
    """The tensors and the manifest in a file; ``format`` in place of the one that its suffix, or the folder, chooses.

    Raises:
        ArtifactError: when it cannot be read.
    """
    return format_for(path, PluginManager.with_plugins(plugins), format).load(Path(path))


def manifest_of(artifact: Artifact, path: str | Path) -> Manifest:
    """The manifest of a quantized model; ``path`` is for the message.

    Raises:
        ArtifactError: when the file holds something else, or its manifest is not well formed.
    """
    if artifact.manifest is None or "layers" not in artifact.manifest:
        raise ArtifactError(f"{path} has no mono_quant manifest: it is not a quantized model")
    with naming(path):
        return read_manifest(artifact.manifest)
