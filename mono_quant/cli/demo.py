"""``monoquant demo``: quantize a small real classifier that comes with the package, and show what became of it."""

import argparse
from pathlib import Path
from typing import Any

from mono_quant.cli.output import Console
from mono_quant.demo.run import run_demo

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo", help="quantize a small real model", description=__doc__
    )
    parser.add_argument("--output", default="digits-int8.safetensors", metavar="FILE", help="default: %(default)s")
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    outcome = run_demo(Path(arguments.output))
    accuracy = (
        f"accuracy   {outcome.float_accuracy:.2f} % -> {outcome.int8_accuracy:.2f} % on {outcome.images} digits "
        "that were not trained on"
    )
    written = (
        f"written    {outcome.path}: {outcome.int8_bytes:,} bytes; the float file has {outcome.float_bytes:,}, "
        f"{outcome.float_bytes / outcome.int8_bytes:.2f} times as many"
    )
    console.show(outcome.figures(), f"{outcome.result}\n{accuracy}\n{written}")
