"""``monoquant bench``: time a quantized file by every runtime against its float model, on real data, in turn.

The SQNR is that of a runtime's output against the reference kernels: how alike they compute, not how accurate the
quantized model is. The fastest is kept for ``runtime="auto"``; a recipe pins one with ``runtime = "NAME"``.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from mono_quant.bench import Timing, time_models
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
from mono_quant.component import Component
from mono_quant.quantizer import Quantizer
from mono_quant.revalidate import first_batch

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bench", help="time a saved file against the float model", description=__doc__
    )
    parser.add_argument("file", help="a quantized .safetensors, .pt or .pth file, or the index of several")
    add_model_arguments(parser)
    add_data_arguments(parser, why="data, of which the first batch is timed", is_required=True)
    parser.add_argument(
        "--batch-size",
        type=at_least_one,
        action="append",
        default=[],
        metavar="ROWS",
        help="cut or repeat the batch to so many rows; can be repeated; default: the batch as it is",
    )
    parser.add_argument(
        "--runtime",
        type=as_component,
        action="append",
        default=[],
        metavar="NAME|JSON",
        help="only these; can be repeated; default: all that are installed",
    )
    parser.add_argument("--kernel", default="auto", metavar="NAME", help="default: auto, by measurement")
    parser.add_argument("--threads", type=at_least_one, metavar="COUNT", help="default: as torch chooses")
    parser.add_argument(
        "--budget",
        type=at_least_one,
        default=60,
        metavar="SECONDS",
        help="for each size, after which no further runtime is begun (default: 60)",
    )
    add_plugin_argument(parser)
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    before = torch.get_num_threads()
    threads = arguments.threads or before
    torch.set_num_threads(threads)
    try:
        timings = _timings(arguments)
    finally:
        torch.set_num_threads(before)
    console.show(
        {"file": arguments.file, "threads": threads, "timings": timings},
        f"{columns(_rows(timings), right=(0, 2, 3, 4))}\nmedian milliseconds, threads: {threads}",
    )


def _timings(arguments: argparse.Namespace) -> list[Timing]:
    model = model_of(arguments)
    quantizer = Quantizer(kernel=arguments.kernel, plugins=arguments.plugin)
    components = quantizer.components
    named = [components.runtime(Component.of(wanted)) for wanted in arguments.runtime]
    quantized = quantizer.load(arguments.file, model)
    data = data_of(arguments.data, max(arguments.batch_size, default=32))
    is_whole = not named and arguments.kernel == "auto"
    return time_models(
        model,
        quantized,
        first_batch(quantizer, data),
        named or components.runtimes,
        arguments.batch_size,
        budget_s=arguments.budget,
        versions=components.runtime_versions if is_whole else None,
    )


def _rows(timings: Sequence[Timing]) -> Iterator[tuple[str, ...]]:
    yield "rows", "runtime", "ms", "speedup", "SQNR dB", "details"
    for timing in timings:
        yield (
            f"{timing.batch_size}",
            timing.runtime,
            "-" if timing.ms is None else f"{timing.ms:.3f}",
            "-" if timing.speedup is None else f"{timing.speedup:.2f}",
            "-" if timing.sqnr_db is None else f"{timing.sqnr_db:.1f}",
            timing.why_not or timing.details,
        )
