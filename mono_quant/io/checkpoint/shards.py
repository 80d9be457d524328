"""Which tensors stand in which of several files."""

from collections.abc import Mapping
from pathlib import Path

from mono_quant.errors import ConfigurationError
from mono_quant.io.checkpoint.tensor_info import TensorInfo

__all__ = ["assign_shards"]


def assign_shards(path: Path, infos: Mapping[str, TensorInfo], max_shard_bytes: int | None) -> dict[str, list[str]]:
    """File name → its tensors: ``path`` with all of them when they fit, or else ``name-00001-of-0000N.safetensors``.

    The order is kept. What is named alike up to the last dot, as ``x.weight`` and ``x.weight_scale``, stands in one
    file, with the first of them; when that alone is more than ``max_shard_bytes``, in a file of its own.

    Raises:
        ConfigurationError: when ``max_shard_bytes`` is not positive.
    """
    if max_shard_bytes is None:
        return {path.name: list(infos)}
    if max_shard_bytes < 1:
        raise ConfigurationError(f"max_shard_bytes is a positive number of bytes, got {max_shard_bytes}")
    shards = _fill(_groups(infos), infos, max_shard_bytes)
    if len(shards) <= 1:
        return {path.name: list(infos)}
    return {
        f"{path.stem}-{number:05d}-of-{len(shards):05d}{path.suffix}": names
        for number, names in enumerate(shards, start=1)
    }


def _groups(infos: Mapping[str, TensorInfo]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in infos:
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    return list(groups.values())


def _fill(groups: list[list[str]], infos: Mapping[str, TensorInfo], limit: int) -> list[list[str]]:
    shards: list[list[str]] = []
    room = 0
    for group in groups:
        size = sum(infos[name].nbytes for name in group)
        if not shards or size > room:
            shards.append([])
            room = limit
        shards[-1] += group
        room -= size
    return shards
