"""A quantized model as an ONNX graph."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from mono_quant.errors import CompilationError
from torch.export import ExportedProgram

from mono_quant_onnx.lowering import lower
from mono_quant_onnx.placeholders import translations

__all__ = ["OPSET", "checked_file", "input_names", "refuse_what_is_not_standard", "to_onnx"]

OPSET = 21
"""The first with int4 and with scales of blocks."""


def to_onnx(program: ExportedProgram, *, sums_integers: bool = False, opset: int = OPSET) -> ir.Model:
    """A program of `mono_quant.runtimes.export_program` as standard ONNX.

    Args:
        program: exported.
        sums_integers: as of `mono_quant_onnx.lowering.lower`.
        opset: of ONNX.

    Raises:
        CompilationError: when ``torch.onnx`` does not know one of its operators, or ONNX has no such type.
    """
    with _quiet(), torch.no_grad():
        _refuse_mutations(program)
        try:
            exported = torch.onnx.export(
                program,
                (),
                dynamo=True,
                custom_translation_table=translations(),
                opset_version=opset,
                optimize=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise CompilationError(f"torch.onnx cannot export it: {_innermost(error)}") from error
    if exported is None:
        raise CompilationError("torch.onnx gave nothing")
    model = exported.model
    lower(model, sums_integers=sums_integers)
    model.producer_name = "mono_quant"
    return model


def _refuse_mutations(program: ExportedProgram) -> None:
    """Refuse a model that writes into its buffers or inputs: a graph does not."""
    outputs = program.run_decompositions({}).graph_signature.output_specs
    written = [spec.target or spec.arg.name for spec in outputs if spec.kind.name.endswith("_MUTATION")]
    if written:
        raise CompilationError(f"forward writes into {', '.join(map(repr, written))}, which a graph of ONNX cannot do")


def _innermost(error: BaseException) -> str:
    """The last cause in a chain, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what ``torch.onnx`` logs of packages that are not installed, and warns of its own code."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def checked_file(model: ir.Model, folder: Path) -> Path:
    """Write a graph, its constants in a file beside it, and have it checked by ``onnx``.

    Raises:
        CompilationError: when it is no standard ONNX, which is a fault of this package.
    """
    path = folder / "model.onnx"
    ir.save(model, path, external_data="model.onnx.data")
    refuse_what_is_not_standard(path)
    return path


def refuse_what_is_not_standard(path: Path) -> None:
    """Have a file checked by ``onnx``, with shape inference.

    Raises:
        CompilationError: when it is no standard ONNX, which is a fault of this package.
    """
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CompilationError(f"the graph is no standard ONNX; please report this: {error}") from error


def input_names(model: ir.Model) -> list[str]:
    """Of the inputs of a graph, in their order."""
    return [str(value.name) for value in model.graph.inputs]
