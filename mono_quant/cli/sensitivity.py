"""``monoquant sensitivity``: what each layer costs when it alone is quantized, the most sensitive first."""

import argparse
from typing import Any

from mono_quant.cli.inputs import add_data_arguments, add_model_arguments, at_least_one, data_of, metric_of, model_of
from mono_quant.cli.output import Console
from mono_quant.cli.selection import add_quantizer_arguments, quantizer_of

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sensitivity", help="show which layers cost how much", description=__doc__
    )
    add_model_arguments(parser)
    add_data_arguments(parser, why="calibration data, on whose first batches outputs are compared", is_required=True)
    parser.add_argument(
        "--batch-size", type=at_least_one, default=32, metavar="ROWS", help="of a file with one tensor (default: 32)"
    )
    parser.add_argument("--metric", metavar="MODULE:NAME", help="a function of a model to rank by; higher is better")
    parser.add_argument("--batches", type=at_least_one, default=4, metavar="COUNT", help="to compare on (default: 4)")
    add_quantizer_arguments(parser)
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    quantizer = quantizer_of(arguments, show_progress=False if arguments.quiet else None)
    metric = None if arguments.metric is None else metric_of(arguments.metric)
    data = data_of(arguments.data, arguments.batch_size)
    found = quantizer.sensitivity(model_of(arguments), data, metric, batches=arguments.batches)
    console.show(found, found)
