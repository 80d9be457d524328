"""``monoquant recipe``: the recipe that a saved file was made by, so that the run can be repeated."""

import argparse
from typing import Any

from mono_quant.cli.inputs import add_plugin_argument
from mono_quant.cli.output import Console
from mono_quant.errors import ConfigurationError
from mono_quant.recipe import kind_of_file
from mono_quant.saved import manifest_of, read_artifact

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "recipe", help="print the recipe of a saved file", description=__doc__
    )
    parser.add_argument("file", help="a quantized .safetensors, .pt or .pth file, or the index of several")
    parser.add_argument(
        "-o", "--output", default="-", metavar="FILE",
        help="a .toml or .json file to write; the default, -, prints TOML, or JSON with --json",
    )  # fmt: skip
    add_plugin_argument(parser)
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    config = manifest_of(read_artifact(arguments.file, arguments.plugin), arguments.file).config
    if arguments.output == "-":
        console.write(config.to_text("json" if console.wants_json else "toml"))
        return
    if console.wants_json and kind_of_file(arguments.output) != "json":
        raise ConfigurationError(f"--json asks for JSON, and the suffix of {arguments.output} for TOML")
    config.to_file(arguments.output)
