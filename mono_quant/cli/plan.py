"""``monoquant plan``: what would be done with each layer, without data."""

import argparse
from typing import Any

from mono_quant.cli.inputs import add_model_arguments, model_of
from mono_quant.cli.output import Console
from mono_quant.cli.selection import add_quantizer_arguments, quantizer_of

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan", help="show what would be quantized", description=__doc__
    )
    add_model_arguments(parser, is_required=False)
    add_quantizer_arguments(parser)
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    quantizer = quantizer_of(arguments)
    if arguments.model is None and arguments.weights is not None:
        plan = quantizer.quantize_checkpoint(arguments.weights).plan
    else:
        plan = quantizer.plan(model_of(arguments))
    console.show(plan, plan)
