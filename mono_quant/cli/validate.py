"""``monoquant validate``: check a quantized file against the float model that it was made from."""

import argparse
from typing import Any

from mono_quant.cli.inputs import (
    add_data_arguments,
    add_model_arguments,
    add_plugin_argument,
    at_least_one,
    data_of,
    model_of,
)
from mono_quant.cli.output import Console, columns
from mono_quant.cli.selection import as_component
from mono_quant.io.validation import report_failures
from mono_quant.plugin_api.validator import ValidationFinding
from mono_quant.revalidate import validate_file

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser("validate", help="check a saved file", description=__doc__)
    parser.add_argument("file", help="a quantized .safetensors, .pt, .pth or .pt2 file, or the index of several")
    add_model_arguments(parser)
    add_data_arguments(parser, why="data to compare outputs on, its first batch")
    parser.add_argument(
        "--batch-size", type=at_least_one, default=32, metavar="ROWS", help="of a file with one tensor (default: 32)"
    )
    parser.add_argument(
        "--validator",
        type=as_component,
        action="append",
        metavar="NAME|JSON",
        help="only these checks; can be repeated; default: those of the recipe in the file",
    )
    add_plugin_argument(parser)
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    result = validate_file(
        arguments.file,
        model_of(arguments),
        None if arguments.data is None else data_of(arguments.data, arguments.batch_size),
        validators=arguments.validator,
        plugins=arguments.plugin,
    )
    console.show({"file": arguments.file, "validation": result}, columns(map(_row, result.findings), right=[2]))
    report_failures(result, "error")


def _row(finding: ValidationFinding) -> tuple[str, ...]:
    value = "" if finding.value is None else f"{finding.value:.4g}"
    return finding.name, finding.status, value, finding.unit, finding.message
