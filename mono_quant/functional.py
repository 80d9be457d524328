"""The pipeline as single calls."""

from collections.abc import Iterable, Sequence
from glob import escape
from typing import Any

from torch import nn

from mono_quant.config import OnFailure
from mono_quant.core.selection import Pattern
from mono_quant.info import QuantizationInfo
from mono_quant.quantizer import Quantizer

__all__ = ["dynamic_quantize", "static_quantize"]

LayerTypes = type[nn.Module] | Sequence[type[nn.Module]]


def static_quantize(
    model: nn.Module,
    calibration_data: Iterable[Any],
    *,
    layer_types: LayerTypes | None = None,
    skip_types: LayerTypes | None = None,
    layer_names: Sequence[str] | None = None,
    skip_names: Sequence[str] | None = None,
    num_samples: int = 150,
    run_validation: bool = True,
    on_failure: OnFailure = "error",
    **options: Any,  # noqa: ANN401 - the other options of Quantizer, checked there
) -> tuple[nn.Module, QuantizationInfo]:
    """Quantize weights and activations to int8, with ranges from calibration data.

    Args:
        model: any module; it is left as it was.
        calibration_data: a DataLoader, a list of tensors or any iterable of batches.
        layer_types: quantize only layers of these classes, and those in ``layer_names``.
        skip_types: keep layers of these classes in float.
        layer_names: quantize only the layers of exactly these names, and those of ``layer_types``.
        skip_names: keep the layers of exactly these names in float.
        num_samples: how many batches to draw at most.
        run_validation: whether to check the result.
        on_failure: what a failed check does: ``"error"``, ``"warn"`` or ``"ignore"``.
        options: further options of `Quantizer`: ``observer=``, ``kernel=``, ``plugins=``...

    Returns:
        The quantized model and the figures of the run.
    """
    quantizer = Quantizer(
        "int8-static",
        include=_patterns(layer_types, layer_names),
        exclude=_patterns(skip_types, skip_names),
        num_samples=num_samples,
        on_failure=on_failure,
        **_validation(options, run_validation=run_validation),
    )
    result = quantizer.quantize(model, calibration_data)
    return result.model, result.info


def dynamic_quantize(
    model: nn.Module,
    calibration_data: Iterable[Any] | None = None,
    *,
    layer_types: LayerTypes | None = None,
    skip_types: LayerTypes | None = None,
    layer_names: Sequence[str] | None = None,
    skip_names: Sequence[str] | None = None,
    run_validation: bool = True,
    on_failure: OnFailure = "error",
    **options: Any,  # noqa: ANN401 - the other options of Quantizer, checked there
) -> tuple[nn.Module, QuantizationInfo]:
    """Quantize Linear layers to int8 without data: each input is quantized by its own range when the model runs.

    Args:
        model: any module; it is left as it was.
        calibration_data: not needed; with some, outputs are compared and speed is measured.
        layer_types: as in `static_quantize`, like the arguments that follow.
        skip_types: as there.
        layer_names: as there.
        skip_names: as there.
        run_validation: whether to check the result; without data outputs are not compared.
        on_failure: as there.
        options: further options of `Quantizer`.

    Returns:
        The quantized model and the figures of the run.
    """
    quantizer = Quantizer(
        "int8-dynamic",
        include=_patterns(layer_types, layer_names),
        exclude=_patterns(skip_types, skip_names),
        on_failure=on_failure,
        **_validation(options, run_validation=run_validation),
    )
    result = quantizer.quantize(model, calibration_data)
    return result.model, result.info


def _patterns(types: LayerTypes | None, names: Sequence[str] | None) -> list[Pattern]:
    """Classes, and names that are meant to the letter."""
    classes = [types] if isinstance(types, type) else list(types or ())
    exact = [names] if isinstance(names, str) else names or ()
    return [*classes, *map(escape, exact)]


def _validation(options: dict[str, Any], *, run_validation: bool) -> dict[str, Any]:
    return options if run_validation else {**options, "validators": ()}
