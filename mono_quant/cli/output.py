"""Printing: the result of a command to standard output, everything else to standard error."""

import argparse
import json
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import attrs

__all__ = ["Console", "as_json", "columns", "complete"]


@attrs.frozen(kw_only=True)
class Console:
    """Where the result of a command goes, and in which form.

    Args:
        stream: standard output as it was when the command began.
        wants_json: whether the result is printed as JSON.
        is_quiet: whether it is not printed at all.
    """

    stream: TextIO
    wants_json: bool
    is_quiet: bool

    def show(self, value: object, text: object) -> None:
        """Print a result: ``value`` as JSON, or ``text`` for people."""
        self.write(f"{json.dumps(as_json(value), indent=2) if self.wants_json else text}\n")

    def write(self, text: str) -> None:
        """Print text as it is; a reader that went away, as `head` does, is no error."""
        if self.is_quiet:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except BrokenPipeError:
            # What is left in the buffer would raise once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def complete(parser: argparse.ArgumentParser, **default: object) -> None:
    """Give a command what every command has: ``--json``, ``--quiet``, and a description without markup.

    Args:
        parser: of the command.
        default: ``default=argparse.SUPPRESS`` for a command of a command.
    """
    parser.description = (parser.description or "").replace("``", "")
    form = parser.add_mutually_exclusive_group()
    options: dict[str, Any] = {"action": "store_true", **default}
    form.add_argument("--json", help="print the result as JSON", **options)
    form.add_argument("--quiet", help="print nothing but errors; no warnings, no progress bars", **options)


def as_json(value: Any) -> Any:  # noqa: ANN401 - anything to JSON values
    """Records as objects, tuples as lists, numbers that JSON has not as text."""
    if attrs.has(type(value)):
        return {field.name: as_json(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, dict):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def columns(rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """Rows of cells as a table.

    >>> print(columns([("layer", "bytes"), ("up", "16")], right=[1]))
    layer  bytes
    up        16

    Args:
        rows: of the same number of cells.
        right: the columns whose cells end at one line; the others begin at one.
    """
    rows, right = list(rows), set(right)
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
