"""From one format to another: the same codes, scales and manifest in another file."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mono_quant._plugins.formats import format_for, refusals_of
from mono_quant._plugins.manager import PluginManager
from mono_quant.component import Wanted
from mono_quant.core.checkpoint_plan import layer_and_parameter
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.artifact import expand_ties
from mono_quant.io.checkpoint.index import INDEX_SUFFIX, read_index
from mono_quant.io.files import write_artifact
from mono_quant.io.foreign import recognized
from mono_quant.io.manifest import read_manifest
from mono_quant.io.naming import naming
from mono_quant.io.stored_weights import refuse_misfits, weight_specs
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.plugin_api.format import Format, ProgramFormat
from mono_quant.plugin_api.plan import LayerPlan

__all__ = ["convert"]


def convert(
    source: str | Path,
    target: str | Path,
    format: Wanted | None = None,  # noqa: A002 - the word that users know
    *,
    source_format: Wanted | None = None,
    plugins: Iterable[object] = (),
) -> Artifact:
    """Write what a file holds in another format: every code, scale and manifest as they are.

    Nothing is written where the other format cannot hold all of it.

    Args:
        source: a file, or the folder of a format that is one; also a checkpoint of torchao or optimum-quanto.
        target: where to; its suffix chooses the format.
        format: name of a format, or a mapping of it and options, in place of that.
        source_format: the same for the source.
        plugins: modules, instances or import paths to register besides the installed plugins.

    Returns:
        What was read and written.

    Raises:
        ArtifactError: when the source cannot be read, the other format cannot hold it, or cannot be written.
        ConfigurationError: when it would write over its own source, or asks for a program.
    """
    _refuse_overwriting(Path(source), Path(target))
    manager = PluginManager.with_plugins(plugins)
    writing = format_for(target, manager, format)
    if isinstance(writing, ProgramFormat):
        raise ConfigurationError(
            f"{target} would be a program, which is made by running the model: quantize the model, or load {source} "
            f"into one, and save it with result.save({str(target)!r})"
        )
    with naming(source):
        wanted = recognized(Path(source)) if source_format is None else source_format
        artifact = format_for(source, manager, wanted).load(Path(source))
        refused = _refusals(writing, artifact)
    if refused:
        raise ArtifactError("\n  ".join([f"{target} is not written: its format cannot hold all of {source}", *refused]))
    with naming(target):
        write_artifact(writing, artifact, target)
    return artifact


def _layers(artifact: Artifact) -> dict[str, LayerPlan]:
    """The quantized layers by the manifest, whose word is held against the tensors; none where it has no layers.

    Raises:
        ArtifactError: when they do not go together.
    """
    state = expand_ties(artifact)
    if artifact.manifest is None or "layers" not in artifact.manifest:
        return {}
    layers = read_manifest(artifact.manifest).layers
    refuse_misfits(weight_specs(layers), state, state.__getitem__)
    return layers


def _refusals(writing: Format, artifact: Artifact) -> list[str]:
    layers = _layers(artifact)
    kept = {layer_and_parameter(name)[0] for name in artifact.tensors} - set(layers)
    return [f"layer {name or '(model)'!r}: {reason}" for name, reason in refusals_of(writing, layers, kept).items()]


def _refuse_overwriting(source: Path, target: Path) -> None:
    """Refuse a target that is the source, or one of its files, by whatever link.

    Raises:
        ConfigurationError: naming it.
    """
    for one in _files(source):
        if one.exists() and target.exists() and target.samefile(one):
            raise ConfigurationError(f"{target} would overwrite the input {one}: choose another path")
        if one.exists() and target.is_dir() and one.resolve().parent == target.resolve():
            raise ConfigurationError(f"the input {one} is in {target}, which would be written: choose another folder")


def _files(source: Path) -> Iterator[Path]:
    """The source itself and the files that it is made of."""
    yield source
    if source.is_dir():
        yield from source.iterdir()
    elif source.name.endswith(INDEX_SUFFIX) and source.exists():
        yield from (source.parent / name for name in set(read_index(source).weight_map.values()))
