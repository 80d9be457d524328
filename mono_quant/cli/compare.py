"""``monoquant compare``: two files, float or quantized, layer by layer: dtypes, bytes, and SQNR of the weights.

Or two reports that ``monoquant quantize --report`` wrote: what got better or worse, and what was chosen otherwise.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mono_quant.cli.inputs import add_plugin_argument
from mono_quant.cli.output import Console, columns
from mono_quant.cli.report_text import report_text
from mono_quant.compare import Comparison, Stored, compare_files
from mono_quant.compare_reports import compare_reports

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare", help="compare two files, layer by layer", description=__doc__
    )
    parser.add_argument("first", help="what the second is measured against, usually the float file; or a report")
    parser.add_argument("second", help="the other file, usually the quantized one; or the other report")
    add_plugin_argument(parser)
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    paths = (arguments.first, arguments.second)
    reports = compare_reports(*paths)
    if reports is not None:
        console.show({"reports": list(paths), "comparison": reports}, report_text(reports))
        return
    found = compare_files(*paths, plugins=arguments.plugin)
    files = [{"path": path, "bytes": Path(path).stat().st_size} for path in paths]
    console.show({"files": files, "comparison": found}, columns(_rows(found), right=[2, 4, 5]))


def _rows(found: Comparison) -> Iterator[tuple[str, ...]]:
    yield "layer", "first", "bytes", "second", "bytes", "SQNR dB"
    for layer in found.layers:
        yield layer.name or "(model)", *_cells(layer.first), *_cells(layer.second), _decibel(layer.sqnr_db)
    yield "all", *_cells(found.first), *_cells(found.second), _decibel(found.sqnr_db)


def _cells(stored: Stored | None) -> tuple[str, str]:
    return ("-", "-") if stored is None else ("+".join(stored.dtypes), f"{stored.bytes:,}")


def _decibel(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
