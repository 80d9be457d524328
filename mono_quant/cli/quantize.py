"""``monoquant quantize``: a model, and data where the scheme needs it, in; a quantized file out.

Schemes that quantize weights alone also take weights without a model.
"""

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mono_quant._atomic import replacing
from mono_quant._size import size_text
from mono_quant.cli.inputs import (
    add_data_arguments,
    add_model_arguments,
    at_least_one,
    data_of,
    model_of,
    refuse_overwriting,
)
from mono_quant.cli.memory import peak_memory_mb
from mono_quant.cli.output import Console
from mono_quant.cli.selection import add_quantizer_arguments, quantizer_of
from mono_quant.cli.target import add_target_arguments, target_of
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.plugin_api import FolderFormat, ProgramFormat
from mono_quant.quantizer import Quantizer
from mono_quant.report_file import report_values

__all__ = ["add_to"]


def add_to(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's sub-parsers have no public type
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser("quantize", help="quantize a model", description=__doc__)
    add_model_arguments(parser, is_required=False)
    add_data_arguments(parser, why="calibration data, for schemes that need it and for comparing outputs")
    parser.add_argument(
        "--batch-size", type=at_least_one, default=32, metavar="ROWS", help="of a file with one tensor (default: 32)"
    )
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="the quantized model: .safetensors, .pt, .pt2, or by --format"
    )
    parser.add_argument(
        "--report", metavar="FILE", help="write all figures, layer by layer, as JSON: compare takes two"
    )
    parser.add_argument("--layers", action="store_true", help="print a line for each quantized layer, with a hint")
    add_quantizer_arguments(parser)
    add_target_arguments(parser)
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> None:
    is_silent = arguments.no_progress or arguments.quiet
    quantizer = quantizer_of(
        arguments,
        show_progress=False if is_silent else None,
        target=target_of(arguments),
        output=arguments.output,
    )
    into = quantizer.components.format_for(arguments.output, quantizer.config.format)  # a wrong suffix is refused here
    if isinstance(into, ProgramFormat) and (arguments.model is None or arguments.data is None):
        raise ConfigurationError(
            f"{arguments.output} would be a program, which is made by running the model on a batch: give --model and "
            "--data, or an --output that ends in .safetensors"
        )
    refuse_overwriting(arguments.output, arguments.weights, arguments.data)
    if arguments.report is not None:
        refuse_overwriting(arguments.report, arguments.weights, arguments.data, option="--report")
        if Path(arguments.report).resolve() == Path(arguments.output).resolve():
            raise ConfigurationError("--report and --output name the same file: choose another one")
    _refuse_what_cannot_be_written(arguments.output, is_folder=isinstance(into, FolderFormat))
    if arguments.report is not None:
        _refuse_what_cannot_be_written(arguments.report)
    if arguments.model is None and arguments.weights is not None:
        _quantize_weights(arguments, quantizer, console)
        return
    model = model_of(arguments)
    data = None if arguments.data is None else data_of(arguments.data, arguments.batch_size)
    result = quantizer.quantize(model, data)
    report = nullcontext() if arguments.report is None else replacing(Path(arguments.report))
    with report as temporary:  # where one of both cannot be written, neither is in place
        if temporary is not None:
            result.save_report(temporary)
        result.save(arguments.output, quantizer.config.format)
    found = "" if result.found is None else f"{result.found}\n"
    layers = f"\n\n{result.layer_table()}" if arguments.layers else ""
    peak_mb = peak_memory_mb()
    memory = "" if peak_mb is None else f"memory     {size_text(peak_mb)} at most, of this process\n"
    values = report_values(result.info, result.validation, result.layers, result.found)
    console.show(
        {"output": arguments.output, "peak_memory_mb": peak_mb, **values},
        f"{found}{result}\n{memory}written    {arguments.output}{layers}",
    )


def _refuse_what_cannot_be_written(output: str, *, is_folder: bool = False) -> None:
    """Before the work, not after."""
    path = Path(output).absolute()
    try:
        why = "" if path.parent.is_dir() else "its folder does not exist"
        why = "it is a folder; give the path of a file" if path.is_dir() and not is_folder else why
    except OSError as error:  # a name that is too long
        why = str(error)
    if why:
        raise ArtifactError(f"{output} cannot be written: {why}")


def _quantize_weights(arguments: argparse.Namespace, quantizer: Quantizer, console: Console) -> None:
    """Without a model: tensors are quantized by their names and shapes."""
    needs_model = {
        "--data is given to a model": arguments.data is not None,
        "a target is measured on a model": quantizer.target is not None,
        "--report and --layers tell of the layers of a model": arguments.report is not None or arguments.layers,
    }
    if what := next((what for what, is_asked in needs_model.items() if is_asked), ""):
        raise ConfigurationError(f"{what}: say which with --model")
    checkpoint = quantizer.quantize_checkpoint(arguments.weights)
    checkpoint.save(arguments.output)
    figures = {
        "original_size_mb": checkpoint.original_size_mb,
        "quantized_size_mb": checkpoint.quantized_size_mb,
        "compression_ratio": checkpoint.compression_ratio,
        "selected_layers": list(checkpoint.plan.layers),
        "skipped_layers": checkpoint.plan.kept,
    }
    console.show(
        {"output": arguments.output, "info": figures, "layer_sqnr_db": checkpoint.layer_sqnr_db},
        f"{checkpoint}\nwritten    {arguments.output}",
    )
