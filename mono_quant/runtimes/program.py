"""A quantized model as a graph that names what is quantized, for runtimes and formats to translate."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, ShapesCollection

from mono_quant.calibration.data import describe
from mono_quant.calibration.rows import resized, rows_of
from mono_quant.calibration.runner import evaluating
from mono_quant.calibration.state import restoring
from mono_quant.core.tensors import iter_tensors
from mono_quant.errors import CalibrationError, CompilationError
from mono_quant.modules.recording import recording
from mono_quant.plugin_api.source import Batch

__all__ = ["export_program"]


def export_program(model: nn.Module, example: Batch) -> ExportedProgram:
    """A quantized model as ``torch.export`` sees it, its quantized layers as operators of the namespace ``mono_quant``.

    ``quantize``, ``int8_layer``, ``dequantize_weight`` and ``dequantize_rows`` have the stored codes, scales and zero
    points as arguments; docs/reference/operators.md gives their arithmetic. Everything else is ATen. Axes are symbolic
    as far as the model allows, all of them if it can be; a model that looks at the size of an axis fixes it.

    Args:
        model: run in eval mode; afterwards it is as it was.
        example: a real batch. Of one row, it is doubled, for torch takes an axis of size 1 as one that stays so.

    Raises:
        CompilationError: when torch cannot export the model, as where its code depends on the values of tensors.
    """
    last: Exception | None = None
    with evaluating(model), restoring(model), recording():
        for batch, is_symbolic in _attempts(example):
            args, kwargs = batch.args, dict(batch.kwargs)
            shapes: Any = ShapesCollection()  # type: ignore[no-untyped-call] # as are its methods
            for tensor in iter_tensors((args, kwargs)):
                axes = {axis: Dim.AUTO for axis, size in enumerate(tensor.shape) if size != 1 and is_symbolic(axis)}
                if axes:
                    shapes[tensor] = axes
            try:
                return torch.export.export(
                    model, args, kwargs, dynamic_shapes=shapes.dynamic_shapes(model, args, kwargs), strict=False
                )
            except Exception as error:  # noqa: BLE001 - any model, and torch's own many kinds
                last = error
    raise CompilationError(
        f"{type(model).__name__} cannot be exported by torch.export, called with {describe(example)}: "
        f"{_in_a_line(last)}. The runtimes 'torch' and 'torch-compile' need no export"
    ) from last


def _attempts(example: Batch) -> Iterator[tuple[Batch, Callable[[int], bool]]]:
    """Batches to export with, each with which axes are to be symbolic: fewer from one to the next."""
    try:
        several = resized(example, 2) if rows_of(example) == 1 else example
    except CalibrationError:  # no tensor, or none with rows
        several = example
    yield several.clone(), lambda _: True
    yield several.clone(), lambda axis: axis == 0
    yield example.clone(), lambda _: False


def _in_a_line(error: Exception | None) -> str:
    line = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return f"{type(error).__name__}: {line}"
