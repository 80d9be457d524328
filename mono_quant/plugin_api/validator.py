"""Validators: whether the quantized model is still right."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import attrs
from torch import Tensor, nn

from mono_quant.plugin_api.plan import Plan
from mono_quant.plugin_api.source import Batch

__all__ = ["ValidationContext", "ValidationFinding", "Validator"]


@attrs.frozen(kw_only=True, eq=False)
class ValidationContext:
    """What a validator may look at. It changes none of it.

    Args:
        original: the float model, in eval mode while validators run.
        quantized: the quantized model, in eval mode.
        plan: what was quantized; None when that is not known.
        batch: a real calibration batch; None when there was no data.
        run: the tensors of a model's output on a batch, in their order. It runs on a copy of the batch in eval mode,
            without gradients, with the same random numbers in each call, and is afterwards as it was. Raises
            `CalibrationError` when the batch does not fit.
        float_layer: the float layer that was quantized under a name, after rewrites; None when that is not known.
        save: writes the quantized model to a path, whose suffix chooses the format.
        load: the quantized model from such a file.
    """

    original: nn.Module
    quantized: nn.Module
    plan: Plan | None
    batch: Batch | None
    run: Callable[[nn.Module, Batch], list[Tensor]]
    float_layer: Callable[[str], nn.Module | None]
    save: Callable[[Path], None]
    load: Callable[[Path], nn.Module]


@attrs.frozen(kw_only=True)
class ValidationFinding:
    """One checked fact.

    Args:
        name: what was measured: ``"output-sqnr"``.
        status: ``"passed"``, ``"failed"``, or ``"skipped"`` when it could not be checked.
        value: the figure, or None where there is none.
        unit: unit of the figure: ``"dB"``, ``"MB"``, ``"x"``.
        message: why it failed or was skipped, and what to do.
        layers: the same figure layer by layer, where it has one.
    """

    name: str
    status: Literal["passed", "failed", "skipped"]
    value: float | None = None
    unit: str = ""
    message: str = ""
    layers: Mapping[str, float] = attrs.field(factory=dict)


class Validator(ABC):
    """Checks one property of a quantized model."""

    @abstractmethod
    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        """The findings; a failed check is a finding, not an exception."""
