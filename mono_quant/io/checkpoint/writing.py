"""Writing safetensors while the tensors are computed one after another."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor

from mono_quant._atomic import replacing
from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.blocks import write_tensor
from mono_quant.io.checkpoint.index import INDEX_SUFFIX, ShardIndex
from mono_quant.io.checkpoint.layout import Layout, lay_out
from mono_quant.io.checkpoint.replacement import Replacement
from mono_quant.io.checkpoint.shards import assign_shards
from mono_quant.io.checkpoint.tensor_info import TensorInfo

__all__ = ["write_checkpoint"]

_SUFFIX = ".safetensors"


def write_checkpoint(
    path: str | Path,
    infos: Mapping[str, TensorInfo],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
    max_shard_bytes: int | None = None,
) -> Path:
    """Write tensors as they come, each held no longer than it takes; the target is the old or the whole new one.

    Args:
        path: ends in ``.safetensors``.
        infos: all that will come, which the header needs in advance.
        tensors: each of ``infos`` once, in any order, on any device, with any strides.
        metadata: of the file, or of each shard; readers of Hugging Face want ``"format": "pt"`` in it.
        max_shard_bytes: write several files and an index when the tensors' bytes are more; None for one file always.
            A layer is not divided: one that is larger stands in a file of its own.

    Returns:
        what `open_checkpoint` opens: ``path``, or the index beside it, ``*.safetensors.index.json``.

    Raises:
        ArtifactError: when something has no place in the format, a tensor is missing, twice there or not as announced,
            or a file cannot be written. What stood there before can be read as before.
        ConfigurationError: when ``max_shard_bytes`` is not positive.
    """
    path = Path(path)
    if path.suffix != _SUFFIX:
        raise ArtifactError(f"{path} cannot be written: its name must end in {_SUFFIX}")
    shards = assign_shards(path, {name: info.nbytes for name, info in infos.items()}, max_shard_bytes)
    layouts = {
        path.with_name(file): lay_out({name: infos[name] for name in names}, metadata, str(path.with_name(file)))
        for file, names in shards.items()
    }
    index = path.with_name(path.stem + INDEX_SUFFIX)
    if len(shards) == 1:
        _refuse_beside(index, path)
        _write_files(layouts, infos, tensors)
        return path
    _refuse_beside(path, index)
    files = {name: file for file, names in shards.items() for name in names}
    total = sum(info.nbytes for info in infos.values())
    replacement = Replacement(index, ShardIndex({name: files[name] for name in infos}, {"total_size": total}))
    _write_files(layouts, infos, tensors, before_renaming=replacement.keep_old)
    replacement.finish()
    return index


def _refuse_beside(other: Path, path: Path) -> None:
    """One file and several of the same name would be two checkpoints, and no reader could tell which is meant."""
    if other.exists():
        raise ArtifactError(f"{path} cannot be written beside {other.name}: remove that, or write elsewhere")


def _write_files(
    layouts: Mapping[Path, Layout],
    infos: Mapping[str, TensorInfo],
    tensors: Iterable[tuple[str, Tensor]],
    before_renaming: Callable[[], None] = lambda: None,
) -> None:
    places = {name: (path, offset) for path, layout in layouts.items() for name, offset in layout.offsets.items()}
    with ExitStack() as stack:
        temporary = {path: stack.enter_context(replacing(path)) for path in layouts}
        for path, layout in layouts.items():
            temporary[path].write_bytes(layout.header)
        for name, tensor in tensors:
            if name not in places:
                words = "comes a second time" if name in infos else "was not announced"
                raise ArtifactError(f"{', '.join(map(str, layouts))} cannot be written: tensor {name!r} {words}")
            path, offset = places.pop(name)
            if TensorInfo.of(tensor) != infos[name]:
                raise ArtifactError(
                    f"{path} cannot be written: tensor {name!r} was announced as {infos[name]} and is "
                    f"{TensorInfo.of(tensor)}"
                )
            with temporary[path].open("r+b") as file:  # not all at once: there may be more shards than open files
                file.seek(offset)
                write_tensor(tensor, file)
            del tensor  # or it would be in memory while the next is computed
        for name, (path, _) in places.items():
            raise ArtifactError(f"{path} cannot be written: tensor {name!r} was announced and did not come")
        before_renaming()
