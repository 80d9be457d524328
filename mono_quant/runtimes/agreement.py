"""Whether a runtime gives what the reference kernels give."""

import copy
import math

import torch
from torch import Tensor, nn

from mono_quant.calibration.runner import evaluating
from mono_quant.calibration.state import restoring
from mono_quant.core.sqnr import sum_sqnr_db, without_common_infinities
from mono_quant.core.surgery import copy_with
from mono_quant.core.tensors import iter_tensors
from mono_quant.errors import CompilationError
from mono_quant.io.checks import run_once
from mono_quant.modules import QuantizedModule, to_float
from mono_quant.modules.engine import REFERENCE_ONLY
from mono_quant.plugin_api.source import Batch

__all__ = ["Reference", "on_reference_kernels"]

ENOUGH_DB = 30.0
"""SQNR at which outputs agree, whatever the model: bfloat16 leaves as much of a deep one."""
_TWICE_DB = 10 * math.log10(2)


class Reference:
    """What a quantized model gives by the reference kernels on one batch, for others to be compared with.

    A runtime rounds its sums elsewhere than the reference does. Where an input of a layer lies between two codes, that
    can make the one of the other; a deep model enlarges such a step until later codes are rounded as if anew. So an
    output agrees at an SQNR of 30 dB, and below that when it differs by no more than two models whose inputs are
    rounded independently: by twice the energy of the noise that the codes of inputs put into the output, which is that
    of the model against one with the same weights and float inputs.

    Args:
        model: a quantized model.
        example: a real batch.
    """

    def __init__(self, model: nn.Module, example: Batch) -> None:
        self._model = model
        self._example = example
        self._expected = run_once(on_reference_kernels(model), example)

    def sqnr_db(self, compiled: nn.Module, who: str) -> float | None:
        """SQNR of what a runtime gives against the reference; None where the output holds no float tensors.

        Args:
            compiled: what the runtime made of the model.
            who: for the message: ``"runtime 'mine'"``.

        Raises:
            CompilationError: when it does not agree, or does not run.
        """
        is_itself = compiled is self._model
        actual = run_once(compiled, self._example) if is_itself else _run(compiled, self._example, who)
        self._refuse_other_tensors(actual, who)
        if not any(tensor.is_floating_point() for tensor in self._expected):
            if not all(map(torch.equal, self._expected, actual)):
                raise CompilationError(f"{who} gives other numbers than the reference kernels")
            return None
        found = _sqnr_db(self._expected, actual)
        if found >= ENOUGH_DB:
            return found
        by_inputs = _sqnr_db(run_once(to_float(self._model), self._example), self._expected)
        needed = min(ENOUGH_DB, by_inputs - _TWICE_DB)
        if not found >= needed:  # NaN neither
            raise CompilationError(
                f"{who} does not give what the reference kernels give: SQNR {found:.1f} dB, where {needed:.1f} dB are "
                "needed. Run the model by another runtime, and report this to who made that one"
            )
        return found

    def _refuse_other_tensors(self, actual: list[Tensor], who: str) -> None:
        expected, given = ([(t.dtype, tuple(t.shape)) for t in tensors] for tensors in (self._expected, actual))
        if expected != given:
            raise CompilationError(f"{who} gives {given}, where the reference kernels give {expected}")


def on_reference_kernels(model: nn.Module) -> nn.Module:
    """A copy that runs on the reference kernels; it shares the codes."""
    layers = {name: copy.copy(module) for name, module in model.named_modules() if isinstance(module, QuantizedModule)}
    for layer in layers.values():
        layer.use_kernels(REFERENCE_ONLY)
    return copy_with(model, layers)


def _run(compiled: nn.Module, example: Batch, who: str) -> list[Tensor]:
    """The tensors of its output; not inside a mode that sees each operation, which would keep compilers away."""
    try:
        with evaluating(compiled=[compiled]), restoring(compiled), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return list(iter_tensors(compiled(*example.clone().args, **example.clone().kwargs)))
    except Exception as error:  # a third party's code can raise anything
        raise CompilationError(f"{who} does not run the example: {type(error).__name__}: {error}") from error


def _sqnr_db(expected: list[Tensor], actual: list[Tensor]) -> float:
    """Of the float tensors."""
    pairs = [(x, y) for x, y in zip(expected, actual, strict=True) if x.is_floating_point()]
    return sum_sqnr_db(without_common_infinities(*pair) for pair in pairs)
