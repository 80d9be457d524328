"""Printing: the result of a command to standard output, everything else to standard error."""

import argparse
import json
import os
from typing import Any, TextIO

import attrs

from mono_quant._columns import columns
from mono_quant._json import as_json

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
