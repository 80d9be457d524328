"""The pipeline as single calls."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from glob import escape
from inspect import signature
from pathlib import Path
from typing import Any, overload

from torch import Tensor, nn

from mono_quant.checkpoint import QuantizedCheckpoint
from mono_quant.config import OnFailure
from mono_quant.core.schemes.groups import Misfit
from mono_quant.core.selection import Pattern
from mono_quant.errors import ConfigurationError
from mono_quant.info import QuantizationInfo
from mono_quant.io.artifact import MANIFEST_ATTRIBUTE
from mono_quant.io.handlers import _detect_input_format
from mono_quant.modules import QuantizedModule, to_float
from mono_quant.quantizer import Quantizer
from mono_quant.recipe import did_you_mean
from mono_quant.result import QuantizationResult

__all__ = ["dequantize_model", "dynamic_quantize", "quantize", "static_quantize"]

_BYTE, _HALF = 8, 16

LayerTypes = type[nn.Module] | Sequence[type[nn.Module]]

_SET_HERE = {
    "scheme": "has its scheme in its name; for another one use Quantizer(scheme)",
    "include": "selects by layer_types and layer_names; for patterns use Quantizer(include=...)",
    "exclude": "leaves out by skip_types and skip_names; for patterns use Quantizer(exclude=...)",
}
"""Options of `Quantizer` that the functions set, and what they do instead."""


@overload
def quantize(model: nn.Module, **options: Any) -> QuantizationResult: ...  # noqa: ANN401 - see below
@overload
def quantize(model: str | Path | Mapping[str, Tensor], **options: Any) -> QuantizedCheckpoint: ...  # noqa: ANN401
def quantize(
    model: nn.Module | str | Path | Mapping[str, Tensor],
    *,
    bits: int = 8,
    dynamic: bool = False,
    scheme: str | Mapping[str, Any] = "symmetric",
    calibration_data: Iterable[Any] | None = None,
    layer_types: LayerTypes | None = None,
    skip_types: LayerTypes | None = None,
    layer_names: Sequence[str] | None = None,
    skip_names: Sequence[str] | None = None,
    run_validation: bool = True,
    on_failure: OnFailure = "error",
    group_size: int | None = None,
    misfit: Misfit | None = None,
    **options: Any,
) -> QuantizationResult | QuantizedCheckpoint:
    """Quantize a model, or weights without one.

    =====  ============  =====================  ==============================================
    bits   ``dynamic``   ``calibration_data``   scheme
    =====  ============  =====================  ==============================================
    8      False         given                  ``int8-static``
    8      True          given or not           ``int8-dynamic``
    8      False         None                   ``int8-weight-only``
    2..7   False         given or not           ``int<bits>-weight-only``, in groups of 128
    16     False         given or not           ``float16``
    =====  ============  =====================  ==============================================

    >>> import torch
    >>> quantize(nn.Sequential(nn.Linear(256, 4)), bits=4).info.dtype
    'int4'

    Args:
        model: a module, which is left as it was; or a ``state_dict`` or the path of a checkpoint, of which the weights
            are quantized by their names and shapes.
        bits: of each weight.
        dynamic: quantize inputs too, by their own ranges.
        scheme: ``"symmetric"`` or ``"asymmetric"`` ranges of the weights; or a scheme by its name or a mapping of its
            name and options, which decides everything.
        calibration_data: batches for the ranges of the inputs; with them outputs are compared and speed is measured.
        layer_types: quantize only layers of these classes, and those in ``layer_names``.
        skip_types: keep layers of these classes in float.
        layer_names: quantize only the layers of exactly these names, and those of ``layer_types``.
        skip_names: keep the layers of exactly these names in float.
        run_validation: whether to check the result.
        on_failure: what a failed check does: ``"error"``, ``"warn"`` or ``"ignore"``.
        group_size: of a scheme for weights alone: how many neighbours share a scale; None for 128, at 8 bits for all
            weights of a channel.
        misfit: of such a scheme: what to do with layers whose width is no multiple of it: ``"error"``; ``"adjust"``
            takes smaller groups there; ``"pad"`` leaves the last group shorter. None for ``"error"``.
        options: further options of `Quantizer`; among them ``include`` and ``exclude``, which add to the selection.

    Returns:
        A `QuantizationResult`; for weights without a model a `QuantizedCheckpoint`, quantized when it is saved.

    Raises:
        ConfigurationError: when the request cannot be meant; otherwise the errors of `Quantizer`.
    """
    wanted = scheme
    groups = {name: value for name, value in (("group_size", group_size), ("misfit", misfit)) if value is not None}
    if scheme in ("symmetric", "asymmetric"):
        wanted = _scheme(
            bits, is_symmetric=scheme == "symmetric", dynamic=dynamic, has_data=calibration_data is not None
        )
        wanted = _grouped(wanted, groups) if groups else wanted
    elif (bits, dynamic, groups) != (8, False, {}):
        raise ConfigurationError(f"scheme={scheme!r} says it all: leave out bits, dynamic, group_size and misfit")
    _refuse_unknown(quantize, options, but=("include", "exclude"))
    quantizer = Quantizer(
        wanted,
        include=[*_patterns(layer_types, layer_names), *_listed(options.pop("include", None))],
        exclude=[*_patterns(skip_types, skip_names), *_listed(options.pop("exclude", None))],
        on_failure=on_failure,
        **_validation(options, run_validation=run_validation),
    )
    if _detect_input_format(model) == "module":
        return quantizer.quantize(model, calibration_data)  # type: ignore[arg-type]
    if calibration_data is not None:
        raise ConfigurationError("calibration_data needs a module to run; a checkpoint is quantized without")
    return quantizer.quantize_checkpoint(model)  # type: ignore[arg-type]


def dequantize_model(model: nn.Module | QuantizationResult) -> nn.Module:
    """A float copy of a quantized model: plain layers with exactly the weights that the codes stand for.

    Its ``state_dict`` has the names of the float model's. A BatchNorm that was folded stays in the layer before it.
    For a file without its model's class there is `mono_quant.checkpoint.dequantize_checkpoint`.

    Args:
        model: as `quantize` or `Quantizer.load` gave it; it is left as it is.

    Raises:
        ConfigurationError: when it is not a module, or nothing in it is quantized.
    """
    model = model.model if isinstance(model, QuantizationResult) else model
    if not isinstance(model, nn.Module):
        raise ConfigurationError(f"dequantize_model needs an nn.Module, got a {type(model).__name__}")
    if not any(isinstance(module, QuantizedModule) for module in model.modules()):
        raise ConfigurationError(f"{type(model).__name__} has no quantized layers")
    floated = to_float(model)
    vars(floated).pop(MANIFEST_ATTRIBUTE, None)  # which says that it is quantized
    return floated


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
    **options: Any,  # noqa: ANN401 - the other options of Quantizer, by name
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

    Raises:
        ConfigurationError: when an option is unknown; otherwise the errors of `Quantizer` and `Quantizer.quantize`.
    """
    _refuse_unknown(static_quantize, options)
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
    **options: Any,  # noqa: ANN401 - the other options of Quantizer, by name
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

    Raises:
        ConfigurationError: as there.
    """
    _refuse_unknown(dynamic_quantize, options)
    quantizer = Quantizer(
        "int8-dynamic",
        include=_patterns(layer_types, layer_names),
        exclude=_patterns(skip_types, skip_names),
        on_failure=on_failure,
        **_validation(options, run_validation=run_validation),
    )
    result = quantizer.quantize(model, calibration_data)
    return result.model, result.info


def _scheme(bits: int, *, is_symmetric: bool, dynamic: bool, has_data: bool) -> str | dict[str, Any]:
    """The scheme that is meant, see the table of `quantize`."""
    if bits == _HALF:
        if dynamic or not is_symmetric:
            raise ConfigurationError("16 bits are float16 weights: leave out dynamic and scheme")
        return "float16"
    if not isinstance(bits, int) or bits not in range(2, 9):
        raise ConfigurationError(f"bits must be 2 to 8 or 16, got {bits!r}")
    if dynamic and bits != _BYTE:
        raise ConfigurationError(f"inputs are quantized to 8 bits with 8-bit weights only: bits={bits} without dynamic")
    if dynamic or (has_data and bits == _BYTE):
        name = "int8-dynamic" if dynamic else "int8-static"
        if not is_symmetric:
            raise ConfigurationError(f"the weights of {name} are symmetric; asymmetric ones are weight-only")
        return name
    return {"name": f"int{bits}-weight-only", "symmetric": is_symmetric}


def _grouped(scheme: str | dict[str, Any], groups: dict[str, Any]) -> dict[str, Any]:
    """The same scheme with other groups."""
    if isinstance(scheme, str):
        raise ConfigurationError(
            f"{' and '.join(groups)}: the scheme that is meant, {scheme}, has no groups; 2 to 7 bits have, and 8 "
            "without dynamic and calibration_data"
        )
    return {**scheme, "granularity": "per-group", **groups}


def _listed(patterns: Iterable[Pattern] | Pattern | None) -> list[Pattern]:
    return [patterns] if isinstance(patterns, str | type) else list(patterns or ())


def _refuse_unknown(function: Callable[..., Any], options: Mapping[str, object], but: Sequence[str] = ()) -> None:
    """Refuse options that neither the function nor `Quantizer` has, and those that the function sets itself."""
    set_here = [name for name in _SET_HERE if name not in but]
    known = [*_keywords(function), *(name for name in _keywords(Quantizer) if name not in set_here)]
    for name in options:
        if name in set_here:
            raise ConfigurationError(f"{function.__name__} {_SET_HERE[name]}")
        if name not in known:
            raise ConfigurationError(
                f"{function.__name__} has no option {name!r}; its options are: {', '.join(dict.fromkeys(known))}"
                f"{did_you_mean(name, known)}"
            )


def _keywords(function: Callable[..., Any]) -> list[str]:
    parameters = signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def _patterns(types: LayerTypes | None, names: Sequence[str] | None) -> list[Pattern]:
    """Classes, and names that are meant to the letter."""
    classes = [types] if isinstance(types, type) else list(types or ())
    exact = [names] if isinstance(names, str) else names or ()
    return [*classes, *map(escape, exact)]


def _validation(options: dict[str, Any], *, run_validation: bool) -> dict[str, Any]:
    return options if run_validation else {**options, "validators": ()}
