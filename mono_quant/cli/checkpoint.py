"""``monoquant checkpoint``: a folder of a large model in, a quantized folder out; weights alone, without the model.

Run again, it goes on with what was interrupted.
"""

import argparse
from typing import Any

from mono_quant.cli.inputs import at_least_one
from mono_quant.cli.output import Console
from mono_quant.cli.selection import add_quantizer_arguments, quantizer_of

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "checkpoint", help="quantize the folder of a large model, file by file", description=__doc__
    )
    parser.add_argument("in_dir", metavar="IN_DIR", help="safetensors files and their index, config.json, a tokenizer")
    parser.add_argument("out_dir", metavar="OUT_DIR", help="new, empty, or begun by the same command")
    parser.add_argument("--workers", type=at_least_one, metavar="COUNT", help="processes; default: one for each core")
    parser.add_argument("--max-shard-size", metavar="SIZE", help="of a file: 4GB, 500MB or bytes; default: as it was")
    add_quantizer_arguments(parser)
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    is_silent = arguments.no_progress or arguments.quiet
    quantizer = quantizer_of(arguments, show_progress=False if is_silent else None)
    size = arguments.max_shard_size
    folder = quantizer.quantize_folder(
        arguments.in_dir,
        arguments.out_dir,
        workers=arguments.workers,
        max_shard_bytes=int(size) if size is not None and size.isascii() and size.isdigit() else size,
    )
    figures = {
        "original_size_mb": folder.original_size_mb,
        "quantized_size_mb": folder.quantized_size_mb,
        "compression_ratio": folder.compression_ratio,
        "selected_layers": list(folder.plan.layers),
        "skipped_layers": folder.plan.kept,
    }
    console.show(
        {
            "output": arguments.out_dir,
            "info": figures,
            "files": folder.files,
            "copied": folder.copied,
            "left_out": folder.left_out,
            "resumed": folder.resumed,
        },
        f"{folder}\nwritten    {arguments.out_dir}",
    )
