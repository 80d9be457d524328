"""``monoquant dequantize``: a quantized file back to a float one, without the model's class."""

import argparse
from pathlib import Path
from typing import Any

from mono_quant.checkpoint import dequantize_checkpoint
from mono_quant.cli.inputs import refuse_overwriting
from mono_quant.cli.output import Console

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "dequantize", help="write the float weights that a quantized file stands for", description=__doc__
    )
    parser.add_argument("file", help="a quantized .safetensors or .pt file, or the index of several")
    parser.add_argument("--output", "-o", required=True, metavar="FILE", help="the float file: .safetensors")
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    refuse_overwriting(arguments.output, arguments.file)
    dequantize_checkpoint(arguments.file, arguments.output)
    size = Path(arguments.output).stat().st_size
    console.show({"output": arguments.output, "bytes": size}, f"written    {arguments.output}: {size:,} bytes")
