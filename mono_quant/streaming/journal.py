"""What a run has done so far, beside what it writes, so that the next run goes on from there."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mono_quant._atomic import replacing
from mono_quant.errors import ArtifactError, ConfigurationError

__all__ = ["JOURNAL", "Journal"]

JOURNAL = ".mono_quant-progress.json"
_UNFINISHED = re.compile(rf"\.{re.escape(JOURNAL)}\.[0-9a-f]{{16}}\.tmp")


class Journal:
    """A file of one JSON object a line: first what the run is, then the number of each unit that is on disk.

    Args:
        folder: where the checkpoint is written. It is made when it is not there.
        run: what decides the bytes, as JSON values; what differs in an earlier run is named by its keys.

    Attributes:
        done: units that an earlier run has written.

    Raises:
        ArtifactError: when the folder holds something else, or cannot be written.
        ConfigurationError: when it holds the beginning of another run.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self._path = folder / JOURNAL
        self._run = {"kind": "mono_quant progress, version 1", **run}
        self.done: set[int] = set()
        try:
            folder.mkdir(exist_ok=True)
            found = sorted(entry.name for entry in folder.iterdir() if not _UNFINISHED.fullmatch(entry.name))
            if JOURNAL in found:
                self.done = self._read()
        except OSError as error:
            raise ArtifactError(f"{folder} cannot be written: {error}") from error
        if found and JOURNAL not in found:
            raise ArtifactError(
                f"{folder} is not empty, and holds no unfinished run: {found[0]!r} is in it; "
                "give a folder that is new or empty"
            )

    def begin(self, done: Iterable[int]) -> None:
        """Write the file anew, with these units.

        Raises:
            ArtifactError: when it cannot be written.
        """
        self.done = set(done)
        lines = [self._run, *({"unit": number} for number in sorted(self.done))]
        with replacing(self._path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def record(self, numbers: Iterable[int]) -> None:
        """Add units whose bytes are on disk.

        Raises:
            ArtifactError: when the file cannot be written.
        """
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"unit": number}) + "\n" for number in numbers)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ArtifactError(f"{self._path} cannot be written: {error}") from error

    def remove(self) -> None:
        """Say that the run has come to its end.

        Raises:
            ArtifactError: when the file cannot be removed.
        """
        try:
            self._path.unlink()
        except OSError as error:
            raise ArtifactError(f"{self._path} cannot be removed: {error}") from error

    def _read(self) -> set[int]:
        """The units of an earlier run. The last line may be cut off; what it says is done again then."""
        first, *lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        try:
            earlier = json.loads(first)
        except ValueError:
            earlier = None
        if not isinstance(earlier, dict) or earlier.get("kind") != self._run["kind"]:
            raise ArtifactError(f"{self._path} is damaged: remove {self._path.parent}, and begin anew")
        now = json.loads(json.dumps(self._run))
        if others := [key for key in {**now, **earlier} if now.get(key) != earlier.get(key)]:
            raise ConfigurationError(
                f"{self._path.parent} holds the beginning of another run, with other {', '.join(others)}: "
                "go on with the same, or remove the folder"
            )
        return {number for line in lines if (number := _unit(line)) is not None}


def _unit(line: str) -> int | None:
    try:
        number = json.loads(line)["unit"]
    except (ValueError, LookupError, TypeError):
        return None
    return number if type(number) is int else None
