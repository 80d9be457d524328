"""A checkpoint in several safetensors files with an index."""

from contextlib import ExitStack
from pathlib import Path

from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.checkpoint import Checkpoint
from mono_quant.io.checkpoint.index import read_index
from mono_quant.io.checkpoint.regular import require_regular
from mono_quant.io.checkpoint.safetensors_file import open_safetensors

__all__ = ["open_sharded"]


def open_sharded(path: Path) -> Checkpoint:
    """The tensors in the order of the index; as metadata, the entries that all shards have.

    All shards are open until the checkpoint is closed, so that all of them are of one time.

    Raises:
        ArtifactError: naming the index, the shard and the tensor that do not fit each other.
    """
    weight_map = read_index(path).weight_map
    with ExitStack() as closing:
        shards = {file: closing.enter_context(_open_shard(path, file)) for file in dict.fromkeys(weight_map.values())}
        for name, file in weight_map.items():
            if name not in shards[file]:
                raise ArtifactError(f"{path} has tensor {name!r} in {file!r}, where it is not")
        for file, shard in shards.items():
            extra = [name for name in shard if weight_map.get(name) != file]
            if extra:
                raise ArtifactError(f"{file!r} holds tensor {extra[0]!r}, which {path} does not have there")
        shared = set.intersection(*({*shard.metadata.items()} for shard in shards.values()))
        return Checkpoint(
            str(path),
            {name: shards[file].infos[name] for name, file in weight_map.items()},
            reader=lambda name: shards[weight_map[name]].read(name),
            size=sum(shard.size for shard in shards.values()),
            metadata=dict(sorted(shared)),
            closing=closing.pop_all(),
        )


def _open_shard(index: Path, file: str) -> Checkpoint:
    """A shard that lies in the folder of the index, or where links of both lead, as in the cache of Hugging Face."""
    path = index.parent / file
    try:
        require_regular(path)
    except ArtifactError as error:
        raise ArtifactError(f"{index} needs the shard {file!r}: {error}") from error
    if path.resolve().parent not in (index.parent.resolve(), index.resolve().parent):
        raise ArtifactError(f"{path} is a link to {path.resolve()}, outside of the folder of {index}")
    return open_safetensors(path)
