"""The end of a run: files take their names, so that no reader takes a part of the checkpoint for the whole."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mono_quant._atomic import flush_folder, replacing
from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.index import INDEX_SUFFIX, ShardIndex, write_index
from mono_quant.plugin_api import JSON
from mono_quant.streaming.inputs import CONFIG, InputFolder
from mono_quant.streaming.shard import Shard

__all__ = ["publish"]

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def publish(inputs: InputFolder, shards: Sequence[Shard], config: Mapping[str, JSON] | None, out_dir: Path) -> None:
    """Copy what is beside the weights, and give these their names. It can be done again when it was interrupted.

    The index comes first: until all files that it names are there, readers say which is missing. One file takes its
    name at once.

    Raises:
        ArtifactError: when a file cannot be read or written.
    """
    try:
        for name in inputs.copied:
            (out_dir / name).parent.mkdir(parents=True, exist_ok=True)
            with replacing(out_dir / name) as temporary:
                shutil.copyfile(inputs.path / name, temporary)
        if len(shards) > 1:
            write_index(_index(shards), out_dir / f"{inputs.stem}{INDEX_SUFFIX}")
        for shard in shards:
            if shard.part.exists():
                shard.part.replace(shard.path)
        if config is not None:
            with replacing(out_dir / CONFIG) as temporary:
                temporary.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for path in [path for path in out_dir.rglob(".*.tmp") if _TEMPORARY.fullmatch(path.name)]:
            path.unlink()  # of an earlier run that was killed
        flush_folder(out_dir)
    except OSError as error:
        raise ArtifactError(f"{out_dir} cannot be written: {error}") from error


def _index(shards: Sequence[Shard]) -> ShardIndex:
    total = sum(info.nbytes for shard in shards for info in shard.tensors.values())
    return ShardIndex({name: shard.path.name for shard in shards for name in shard.tensors}, {"total_size": total})
