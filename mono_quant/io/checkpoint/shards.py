"""Which tensors stand in which of several files."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mono_quant.errors import ConfigurationError

__all__ = ["assign_shards", "name_shards"]


def assign_shards(path: Path, sizes: Mapping[str, int], max_shard_bytes: int | None) -> dict[str, list[str]]:
    """File name → its tensors: ``path`` with all of them when they fit, or else ``name-00001-of-0000N.safetensors``.

    ``sizes`` are in bytes, by name. The order is kept. What is named alike up to the last dot, as ``x.weight`` and
    ``x.weight_scale``, stands in one file, with the first of them; when that alone is more than ``max_shard_bytes``,
    in a file of its own.

    Raises:
        ConfigurationError: when ``max_shard_bytes`` is not positive.
    """
    if max_shard_bytes is None:
        return {path.name: list(sizes)}
    if max_shard_bytes < 1:
        raise ConfigurationError(f"max_shard_bytes is a positive number of bytes, got {max_shard_bytes}")
    return name_shards(path, _fill(_groups(sizes), sizes, max_shard_bytes) or [[]])


def name_shards(path: Path, shards: Sequence[list[str]]) -> dict[str, list[str]]:
    """File name → tensors: ``path`` for one shard, or else ``name-00001-of-0000N.safetensors``."""
    if len(shards) == 1:
        return {path.name: shards[0]}
    return {
        f"{path.stem}-{number:05d}-of-{len(shards):05d}{path.suffix}": names
        for number, names in enumerate(shards, start=1)
    }


def _groups(names: Iterable[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    return list(groups.values())


def _fill(groups: list[list[str]], sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    shards: list[list[str]] = []
    room = 0
    for group in groups:
        size = sum(sizes[name] for name in group)
        if not shards or size > room:
            shards.append([])
            room = limit
        shards[-1] += group
        room -= size
    return shards
