"""A quantized model as a graph that names what is quantized, for runtimes and formats to translate."""

from torch import nn
from torch.export import ExportedProgram

from mono_quant.calibration.data import describe
from mono_quant.errors import CompilationError
from mono_quant.io.exporting import exported, in_a_line
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
    try:
        with recording():
            return exported(model, example)
    except Exception as error:  # any model, and torch's own many kinds
        raise CompilationError(
            f"{type(model).__name__} cannot be exported by torch.export, called with {describe(example)}: "
            f"{in_a_line(error)}. The runtimes 'torch' and 'torch-compile' need no export"
        ) from error
