"""``monoquant quantize``: a model and its data in, a quantized file out."""

import argparse
from pathlib import Path
from typing import Any

from mono_quant.cli.inputs import add_model_arguments, load_data, model_of
from mono_quant.cli.output import as_json, say, say_json
from mono_quant.cli.selection import add_quantizer_arguments, quantizer_of
from mono_quant.errors import ArtifactError

__all__ = ["add_to"]


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser = commands.add_parser("quantize", help="quantize a model", description=__doc__)
    add_model_arguments(parser)
    parser.add_argument(
        "--data", required=True, metavar="MODULE:NAME|FILE", help="calibration data: to import, or a file of tensors"
    )
    parser.add_argument(
        "--batch-size", type=_at_least_one, default=32, metavar="ROWS", help="of a file with one tensor (default: 32)"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="the quantized model: .safetensors, .pt")
    add_quantizer_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=_run)


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _run(arguments: argparse.Namespace) -> None:
    quantizer = quantizer_of(arguments)
    quantizer.components.format_for(arguments.output)  # refuse a wrong suffix before the work, not after
    if not Path(arguments.output).absolute().parent.is_dir():
        raise ArtifactError(f"{arguments.output} cannot be written: its folder does not exist")
    result = quantizer.quantize(model_of(arguments), load_data(arguments.data, arguments.batch_size))
    result.save(arguments.output)
    if arguments.json:
        say_json({"output": arguments.output, "info": as_json(result.info), "validation": as_json(result.validation)})
    else:
        say(result)
        say(f"written    {arguments.output}")
