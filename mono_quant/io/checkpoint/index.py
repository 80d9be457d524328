"""The index of a checkpoint in several files, ``name.safetensors.index.json``, as Hugging Face writes it."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import attrs

from mono_quant._atomic import replacing
from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.regular import require_regular
from mono_quant.io.json_text import parse_object

__all__ = ["INDEX_SUFFIX", "ShardIndex", "read_index", "write_index"]

INDEX_SUFFIX = ".safetensors.index.json"
_LONGEST = 100_000_000


@attrs.frozen
class ShardIndex:
    """Which file has which tensor.

    Args:
        weight_map: tensor name → plain name of the file beside the index.
        metadata: JSON values, ``total_size`` among them: the bytes of all tensors, which nobody relies on.
    """

    weight_map: Mapping[str, str]
    metadata: Mapping[str, Any]


def read_index(path: Path) -> ShardIndex:
    """The index in a file.

    Raises:
        ArtifactError: when it is damaged, or a name in it leads to another folder.
    """
    require_regular(path)
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST + 1)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    if len(text) > _LONGEST:
        raise ArtifactError(f"{path} is longer than {_LONGEST} bytes: it is no index")
    try:
        content = parse_object(text.decode(), len(text), "it")
    except ValueError as error:  # an ArtifactError, or text that is not UTF-8
        raise ArtifactError(f"{path} is damaged: {error}") from error
    weight_map, metadata = content.get("weight_map"), content.get("metadata", {})
    if not isinstance(weight_map, dict) or not weight_map or not isinstance(metadata, dict):
        raise ArtifactError(f"{path} is damaged: it has no 'weight_map' of tensor names and files, or odd 'metadata'")
    return ShardIndex({name: _plain(path, name, shard) for name, shard in weight_map.items()}, metadata)


def write_index(index: ShardIndex, path: Path) -> None:
    """Replace the file by one with this index.

    Raises:
        ArtifactError: when it cannot be written.
    """
    content = {"metadata": dict(index.metadata), "weight_map": dict(index.weight_map)}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _plain(path: Path, name: str, shard: object) -> str:
    """A name that means a file in the same folder on every system."""
    if (
        isinstance(shard, str)
        and PurePosixPath(shard).name == shard == PureWindowsPath(shard).name
        and shard not in {"", ".."}
        and shard.isprintable()
    ):
        return shard
    raise ArtifactError(f"{path} has tensor {name!r} in {shard!r}, which is no plain file name")
