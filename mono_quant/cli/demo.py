"""``monoquant demo``: quantize a small real classifier that comes with the package, and show what became of it."""

import argparse
from pathlib import Path
from typing import Any

from mono_quant.cli.output import say, say_json
from mono_quant.demo.run import run_demo

__all__ = ["add_to"]


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser = commands.add_parser("demo", help="quantize a small real model", description=__doc__)
    parser.add_argument("--output", default="digits-int8.safetensors", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    outcome = run_demo(Path(arguments.output))
    if arguments.json:
        say_json(outcome.figures())
        return
    say(outcome.result)
    say(
        f"accuracy   {outcome.float_accuracy:.2f} % -> {outcome.int8_accuracy:.2f} % on {outcome.images} digits "
        "that were not trained on"
    )
    say(
        f"written    {outcome.path}: {outcome.int8_bytes:,} bytes, the float file has {outcome.float_bytes:,} "
        f"({outcome.float_bytes / outcome.int8_bytes:.2f} times as much)"
    )
