"""``monoquant bench``: time a quantized file against its float model on real data, in turn."""

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
    parser.add_argument("--kernel", default="auto", metavar="NAME", help="default: auto, by measurement")
    parser.add_argument("--threads", type=at_least_one, metavar="COUNT", help="default: as torch chooses")
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
        f"{columns(_rows(timings), right=range(4))}\nmedian milliseconds, threads: {threads}",
    )


def _timings(arguments: argparse.Namespace) -> list[Timing]:
    model = model_of(arguments)
    quantizer = Quantizer(kernel=arguments.kernel, plugins=arguments.plugin)
    quantized = quantizer.load(arguments.file, model)
    data = data_of(arguments.data, max(arguments.batch_size, default=32))
    return time_models(model, quantized, first_batch(quantizer, data), arguments.batch_size)


def _rows(timings: Sequence[Timing]) -> Iterator[tuple[str, ...]]:
    yield "rows", "float", "quantized", "speedup", "kernels"
    for timing in timings:
        kernels = ", ".join(f"{name} x {count}" for name, count in timing.kernels.items())
        yield (
            f"{timing.batch_size}",
            f"{timing.float_ms:.3f}",
            f"{timing.quantized_ms:.3f}",
            f"{timing.speedup:.2f}",
            kernels,
        )
