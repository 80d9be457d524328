"""Whole quantized models for suites: how they were before something was made of them, and what that has to give."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs
import torch
from torch import Tensor, nn

from mono_quant.core.sqnr import sum_sqnr_db
from mono_quant.core.tensors import iter_tensors, map_tensors, same_bits
from mono_quant.plugin_api import Batch
from mono_quant.quantizer import Quantizer
from mono_quant.runtimes.agreement import on_reference_kernels

__all__ = ["WholeModel", "call", "refuse_other_output"]


@attrs.frozen(eq=False)
class WholeModel:
    """A quantized model and batches for it.

    Beside them what they were before: the model's tensors and `_modes`, and copies of the first batch's tensors.
    """

    quantized: nn.Module
    batches: Sequence[Batch]
    _state: Mapping[str, Tensor]
    _modes: list[tuple[bool, int]]
    _given: Sequence[Tensor]

    @classmethod
    def of(cls, model: nn.Module, scheme: str | Mapping[str, Any], batches: Sequence[Any]) -> Self:
        """A float model, quantized."""
        quantizer = Quantizer(scheme, validators=(), show_progress=False)
        quantized = quantizer.quantize(model, batches).model
        state = {key: tensor.clone() for key, tensor in quantized.state_dict().items()}
        called = [quantizer.components.batch_of(batch) for batch in batches]
        given = [tensor.clone() for tensor in iter_tensors((called[0].args, called[0].kwargs))]
        return cls(quantized, called, state, _modes(quantized), given)

    def refuse_change(self, name: str) -> None:
        """Whatever was made of it, it is as it was; ``name`` is for the message."""
        same = all(same_bits(tensor, self._state[key]) for key, tensor in self.quantized.state_dict().items())
        assert same, f"{name}: the model's tensors were changed"
        assert _modes(self.quantized) == self._modes, f"{name}: modes or hooks of the model's layers were changed"
        now = iter_tensors((self.batches[0].args, self.batches[0].kwargs))
        assert all(map(same_bits, self._given, now)), f"{name}: the batch was written into"


def call(model: nn.Module, batch: Batch) -> Any:  # noqa: ANN401 - whatever it gives
    """Its output, without gradients."""
    with torch.no_grad():
        return model(*batch.args, **batch.kwargs)


def refuse_other_output(made: nn.Module, quantized: nn.Module, batch: Batch, what: str, *, least_db: float) -> None:
    """What was made of a model gives what that gives with reference kernels: structure, dtypes, shapes, numbers."""
    expected, actual = call(on_reference_kernels(quantized), batch), call(made, batch)
    given, wanted = _described(actual), _described(expected)
    assert given == wanted, f"{what}: it gives {given}, the model {wanted}"
    sqnr_db = sum_sqnr_db(zip(iter_tensors(expected), iter_tensors(actual), strict=True))
    assert sqnr_db >= least_db, f"{what}: SQNR {sqnr_db:.1f} dB against the reference kernels"


def _described(output: object) -> str:
    """Its structure, with keys, and a dtype and shape in the place of each tensor."""
    return str(map_tensors(lambda tensor: (tensor.dtype, *tensor.shape), output))  # type: ignore[arg-type, return-value]


def _modes(model: nn.Module) -> list[tuple[bool, int]]:
    """Of each module, whether it is training, and how many hooks it has."""
    return [
        (module.training, len(module._forward_hooks) + len(module._forward_pre_hooks))  # noqa: SLF001 - no public way
        for module in model.modules()
    ]
