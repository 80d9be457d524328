"""Putting a report in place: the folder is the old report or the whole new one, and never anything else's.

A report lists its files in a file of its own. A folder with other files in it is not replaced.
"""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from mono_quant.errors import ConfigurationError

__all__ = ["LISTING", "refuse_foreign", "replace_folder"]

LISTING = "mono-quant-report.json"
"""Names the files of a report, itself included."""


def refuse_foreign(folder: Path) -> None:
    """Refuse what may not be replaced.

    Raises:
        ConfigurationError: when there is something, and it is neither an empty folder nor a report without additions.
    """
    if folder.is_symlink() and not folder.exists():
        raise ConfigurationError(f"{folder} is a link to nothing: give another folder")
    try:
        if not folder.exists():
            return
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is a file, and the report is a folder: give another one")
        foreign = sorted(
            entry.name for entry in folder.iterdir() if entry.is_dir() or entry.name not in _listed(folder)
        )
    except OSError:
        return  # it cannot be looked at, so neither can it be replaced: writing will say why
    if foreign:
        shown = ", ".join(map(repr, foreign[:5])) + (", ..." if foreign[5:] else "")
        raise ConfigurationError(
            f"{folder} holds what html-report has not put there: {shown}; give another folder, or move that away"
        )


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files to a new folder beside, and give it the name.

    Raises:
        ConfigurationError: as `refuse_foreign`.
        OSError: when it cannot be written; what was there is still there.
    """
    refuse_foreign(folder)
    target = folder.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    new, old = (target.with_name(f".{target.name}.{secrets.token_hex(8)}.{end}") for end in ("new", "old"))
    listing = json.dumps(sorted([*files, LISTING]), indent=1) + "\n"
    new.mkdir()
    try:
        for name, content in {**files, LISTING: listing.encode()}.items():
            (new / name).write_bytes(content)
        _swap(target, new, old)
    except BaseException:
        _delete(new)
        raise
    if old.exists():
        _delete(old)


def _swap(target: Path, new: Path, old: Path) -> None:
    """``new`` takes the place of ``target``, which becomes ``old`` if it is there."""
    is_there = target.exists()
    if is_there:
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if is_there:
            old.rename(target)
        raise


def _listed(folder: Path) -> frozenset[str]:
    """The files that a report says are its own; none when it is no report."""
    try:
        names = json.loads((folder / LISTING).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return frozenset()
    is_listing = isinstance(names, list) and all(isinstance(name, str) for name in names) and LISTING in names
    return frozenset(names) if is_listing else frozenset()


def _delete(folder: Path) -> None:
    """Delete a flat folder of ours as far as possible: by now the report is in place, or has failed."""
    try:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    except OSError:
        return
