"""Putting shards and their index in the place of earlier ones, which stay readable until all of the new stand."""

import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint.index import INDEX_SUFFIX, ShardIndex, read_index, write_index

__all__ = ["Replacement"]


class Replacement:
    """The change from one index to another, each of which leads to whole shards at every moment.

    New shards may take the names of old ones. The old ones then have a second, hidden name for a while, to which the
    old index leads. A run that is killed between leaves them so; the next one to the same place removes them.

    Args:
        path: of both indexes; there may be no old one, or one that cannot be read.
        index: the new one.
    """

    def __init__(self, path: Path, index: ShardIndex) -> None:
        self._path = path
        self._new = index
        try:
            self._old = read_index(path)
        except ArtifactError:
            self._old = ShardIndex({}, {})

    def keep_old(self) -> None:
        """Call it before the first new shard takes its name.

        Raises:
            ArtifactError: when the file system cannot give a file two names.
        """
        token = secrets.token_hex(8)
        taken = set(self._old.weight_map.values()) & set(self._new.weight_map.values())
        hidden = {file: f".{file}.{token}.old" for file in sorted(taken) if self._beside(file).exists()}
        try:
            for file, name in hidden.items():
                os.link(self._beside(file), self._beside(name))
        except OSError as error:
            self._remove(hidden.values())
            raise ArtifactError(
                f"{self._path} cannot be replaced while it stays readable ({error}): remove it, or write elsewhere"
            ) from error
        if hidden:
            weight_map = {name: hidden.get(file, file) for name, file in self._old.weight_map.items()}
            write_index(ShardIndex(weight_map, self._old.metadata), self._path)

    def finish(self) -> None:
        """Write the new index when all its shards stand, and remove those that only the old one had."""
        write_index(self._new, self._path)
        shard = re.escape(self._path.name.removesuffix(INDEX_SUFFIX)) + r"-\d{5,}-of-\d{5,}\.safetensors"
        earlier = {*self._old.weight_map.values()} - {*self._new.weight_map.values()}
        self._remove(file for file in earlier if re.fullmatch(shard, file))
        left = (path.name for path in self._path.parent.iterdir())
        self._remove([file for file in left if re.fullmatch(rf"\.{shard}\.[0-9a-f]{{16}}\.old", file)])

    def _beside(self, file: str) -> Path:
        return self._path.with_name(file)

    def _remove(self, files: Iterable[str]) -> None:
        """What cannot be removed takes room, and does no harm."""
        for file in files:
            with suppress(OSError):
                self._beside(file).unlink()
