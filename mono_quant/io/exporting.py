"""Exporting a model by ``torch.export``, with as many symbolic axes as it allows."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.export import Dim, ExportedProgram, ShapesCollection, export

from mono_quant.calibration.rows import resized, rows_of
from mono_quant.calibration.runner import evaluating
from mono_quant.calibration.state import restoring
from mono_quant.core.tensors import iter_tensors
from mono_quant.errors import CalibrationError
from mono_quant.plugin_api.source import Batch

__all__ = ["exported", "in_a_line"]


def exported(model: nn.Module, example: Batch) -> ExportedProgram:
    """A model as ``torch.export`` sees it.

    Axes are symbolic as far as the model allows, all of them if it can be; a model that looks at the size of an axis
    fixes it.

    Args:
        model: run in eval mode; afterwards it is as it was.
        example: a real batch. Of one row, it is doubled, for torch takes an axis of size 1 as one that stays so.

    Raises:
        Exception: torch's own of whatever kind, when it cannot export the model.
    """
    attempts = [*_attempts(example)]
    with evaluating(model), restoring(model):
        for number, (batch, is_symbolic) in enumerate(attempts, start=1):
            args, kwargs = batch.args, dict(batch.kwargs)
            shapes: Any = ShapesCollection()  # type: ignore[no-untyped-call] # as are its methods
            for tensor in iter_tensors((args, kwargs)):
                axes = {axis: Dim.AUTO for axis, size in enumerate(tensor.shape) if size != 1 and is_symbolic(axis)}
                if axes:
                    shapes[tensor] = axes
            try:
                return export(
                    model, args, kwargs, dynamic_shapes=shapes.dynamic_shapes(model, args, kwargs), strict=False
                )
            except Exception:
                if number == len(attempts):
                    raise
    raise AssertionError("there is a last attempt")


def in_a_line(error: BaseException) -> str:
    """Kind and message of an error, the first line of it."""
    line = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return f"{type(error).__name__}: {line}"


def _attempts(example: Batch) -> Iterator[tuple[Batch, Callable[[int], bool]]]:
    """Batches to export with, each with which axes are to be symbolic: fewer from one to the next."""
    try:
        several = resized(example, 2) if rows_of(example) == 1 else example
    except CalibrationError:  # no tensor, or none with rows
        several = example
    yield several.clone(), lambda _: True
    yield several.clone(), lambda axis: axis == 0
    yield example.clone(), lambda _: False
