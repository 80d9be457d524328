"""``monoquant convert``: a file of one format as one of another, with the same codes, scales and manifest."""

import argparse
from pathlib import Path
from typing import Any

from mono_quant.cli.inputs import add_plugin_argument
from mono_quant.cli.output import Console
from mono_quant.cli.selection import as_component
from mono_quant.converting import convert

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "convert", help="write a file in another format", description=__doc__
    )
    parser.add_argument("source", help="a saved file, or the folder of a format that is one")
    parser.add_argument("target", help="the file or folder to write; its suffix chooses the format")
    parser.add_argument(
        "--format",
        type=as_component,
        metavar="NAME|JSON",
        help="the format to write, in place of the one that the suffix chooses",
    )
    parser.add_argument("--source-format", type=as_component, metavar="NAME|JSON", help="the format to read, likewise")
    add_plugin_argument(parser)
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    artifact = convert(
        arguments.source,
        arguments.target,
        arguments.format,
        source_format=arguments.source_format,
        plugins=arguments.plugin,
    )
    layers = (artifact.manifest or {}).get("layers")
    quantized = len(layers) if isinstance(layers, dict) else 0
    size = _bytes(Path(arguments.target))
    console.show(
        {"output": arguments.target, "bytes": size, "layers": quantized, "tensors": len(artifact.tensors)},
        f"written    {arguments.target}: {size:,} bytes, {quantized} quantized layers, {len(artifact.tensors)} tensors",
    )


def _bytes(path: Path) -> int:
    """Of a file, or of all weights in a folder, which may hold more than was written."""
    files = path.glob("*.safetensors") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
