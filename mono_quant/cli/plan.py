"""``monoquant plan``: what would be done with each layer, without data."""

import argparse
from typing import Any

from mono_quant.cli.inputs import add_model_arguments, model_of
from mono_quant.cli.output import say, say_json
from mono_quant.cli.selection import add_quantizer_arguments, quantizer_of

__all__ = ["add_to"]


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser = commands.add_parser("plan", help="show what would be quantized", description=__doc__)
    add_model_arguments(parser)
    add_quantizer_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    plan = quantizer_of(arguments).plan(model_of(arguments))
    if arguments.json:
        say_json(plan)
    else:
        say(plan)
