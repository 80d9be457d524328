"""Validating a quantized model against its float one, and the record of what was found."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import attrs
from torch import Tensor, nn

from mono_quant._user_line import level_of_the_user
from mono_quant.calibration.runner import evaluating
from mono_quant.calibration.state import restoring, untouched
from mono_quant.config import OnFailure
from mono_quant.core.originals import Writes
from mono_quant.core.sqnr import sqnr_db
from mono_quant.core.surgery import copy_with
from mono_quant.errors import ArtifactError, ConfigurationError, QuantizationWarning, ValidationError
from mono_quant.io.artifact import MANIFEST_ATTRIBUTE, expand_ties, to_artifact
from mono_quant.io.checks import (
    LoadRunValidator,
    SizeValidator,
    SqnrValidator,
    WeightRangeValidator,
    calculate_model_size,
    run_once,
)
from mono_quant.io.manifest import Manifest
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api.source import Batch
from mono_quant.plugin_api.validator import ValidationContext, ValidationFinding, Validator

__all__ = [
    "ValidationResult",
    "calculate_model_size",
    "calculate_sqnr",
    "report_failures",
    "run_validators",
    "validate_quantization",
]


@attrs.frozen
class ValidationResult:
    """What validation found.

    Args:
        sqnr_db: SQNR of the model's output on a calibration batch; of the weights where no batch was run.
        original_size_mb: MB (2^20 bytes) of parameters and buffers of the float model.
        quantized_size_mb: the same of the quantized one.
        compression_ratio: the first over the second.
        load_test_passed: whether the model was saved, loaded and ran with the same results.
        weight_range_valid: whether all codes, scales and zero points are in range.
        errors: the messages of the failed checks.
        weight_sqnr_db: SQNR of all quantized weights together.
        layer_sqnr_db: SQNR of each quantized layer's weights, by name.
        findings: all of it as the validators gave it.
    """

    sqnr_db: float | None = None
    original_size_mb: float | None = None
    quantized_size_mb: float | None = None
    compression_ratio: float | None = None
    load_test_passed: bool = False
    weight_range_valid: bool = False
    errors: list[str] = attrs.field(factory=list)
    weight_sqnr_db: float | None = attrs.field(default=None, kw_only=True)
    layer_sqnr_db: Mapping[str, float] = attrs.field(factory=dict, kw_only=True)
    findings: tuple[ValidationFinding, ...] = attrs.field(default=(), kw_only=True)

    @classmethod
    def of(cls, findings: Sequence[ValidationFinding]) -> "ValidationResult":
        """The record of some findings."""
        by_name = {finding.name: finding for finding in findings}

        def value(name: str) -> float | None:
            return by_name[name].value if name in by_name else None

        def is_passed(name: str) -> bool:
            return name in by_name and by_name[name].status == "passed"

        output, weights = value("output-sqnr"), value("weight-sqnr")
        return cls(
            sqnr_db=weights if output is None else output,
            weight_sqnr_db=weights,
            original_size_mb=value("original-size"),
            quantized_size_mb=value("quantized-size"),
            compression_ratio=value("compression-ratio"),
            load_test_passed=is_passed("load-run"),
            weight_range_valid=is_passed("weight-range"),
            layer_sqnr_db=by_name["weight-sqnr"].layers if "weight-sqnr" in by_name else {},
            errors=[f"{finding.name}: {finding.message}" for finding in findings if finding.status == "failed"],
            findings=tuple(findings),
        )


def run_validators(validators: Iterable[Validator], context: ValidationContext) -> ValidationResult:
    """Run them in order on one context. Each finds both models in eval mode, and as they were before the others ran.

    Raises:
        PluginError: when one of them wrote into quantized layers, which no run of the models does.
    """
    findings: list[ValidationFinding] = []
    layers = [module for module in context.quantized.modules() if isinstance(module, QuantizedModule)]
    for validator in validators:
        with (
            evaluating(context.original, context.quantized),
            restoring(context.original) as state,
            restoring(context.quantized) as its_state,
            Writes(state.originals, its_state.originals),
            untouched(f"validator {type(validator).__name__}", *layers),
        ):
            findings += validator.validate(context)
    return ValidationResult.of(findings)


def report_failures(result: ValidationResult, on_failure: OnFailure) -> None:
    """Do with failed checks what was asked for; a warning points at the line that called mono_quant.

    Raises:
        ConfigurationError: when ``on_failure`` is not one of the three words.
        ValidationError: when a check failed and it is ``"error"``.
    """
    if on_failure not in get_args(OnFailure):
        raise ConfigurationError(f"on_failure must be one of {get_args(OnFailure)}, got {on_failure!r}")
    if result.errors and on_failure != "ignore":
        message = "validation failed: " + "; ".join(result.errors)
        if on_failure == "error":
            raise ValidationError(message)
        warnings.warn(message, QuantizationWarning, stacklevel=level_of_the_user())


def validate_quantization(
    original: nn.Module, quantized: nn.Module, on_failure: OnFailure = "error", *, batch: Batch | None = None
) -> ValidationResult:
    """Run the four built-in checks on a pair of models; where they cannot be one, a finding ``pair`` fails too.

    Args:
        original: the float model.
        quantized: the quantized one, which has at least one quantized layer.
        on_failure: what a failed check does: ``"error"`` raises, ``"warn"`` warns, ``"ignore"`` only records it.
        batch: a real batch; without one outputs are not compared and ``sqnr_db`` is that of the weights.

    Raises:
        ValidationError: when a check failed and ``on_failure`` is ``"error"``.
    """
    report_failures(ValidationResult(), on_failure)
    result = run_validators(
        (_PairValidator(), SqnrValidator(), SizeValidator(), WeightRangeValidator(), LoadRunValidator()),
        _context(original, quantized, batch),
    )
    report_failures(result, on_failure)
    return result


class _PairValidator(Validator):
    """Whether the second model can be the first one quantized; says something only when it cannot."""

    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        wrong = "; ".join(_misfits(context))
        return [ValidationFinding(name="pair", status="failed", message=wrong)] if wrong else []


def _misfits(context: ValidationContext) -> Iterator[str]:
    layers = {name: layer for name, layer in context.quantized.named_modules() if isinstance(layer, QuantizedModule)}
    if not layers:
        yield f"nothing in the second model, a {type(context.quantized).__name__}, is quantized"
    for name, layer in layers.items():
        for parameter, spec in layer.weight_specs.items():
            weight = getattr(context.float_layer(name), parameter, None)
            if isinstance(weight, Tensor) and tuple(weight.shape) != spec.shape:
                what = f"{name}.{parameter}".lstrip(".")
                yield f"{what} is {list(weight.shape)} in the first model and {list(spec.shape)} in the second"


def calculate_sqnr(original: Tensor, quantized: Tensor) -> float:
    """SQNR in dB of a tensor and its approximation; a tensor of a quantized dtype is dequantized first.

    Raises:
        ConfigurationError: when the shapes differ.
    """
    if original.shape != quantized.shape:
        raise ConfigurationError(f"shapes differ: {tuple(original.shape)} and {tuple(quantized.shape)}")
    return sqnr_db(*(x.dequantize() if x.is_quantized else x for x in (original, quantized)))


def _calculate_model_sqnr(original: nn.Module, quantized: nn.Module) -> float:
    """SQNR in dB of all quantized weights, matched by layer; ``inf`` when nothing is quantized."""
    finding = SqnrValidator().validate(_context(original, quantized, None))[0]
    return float("inf") if finding.value is None else finding.value


def _check_weight_ranges(model: nn.Module) -> bool:
    """Whether all codes, scales and zero points are in range and all floats finite."""
    return _passed(WeightRangeValidator(), model)


def _test_load_run(quantized: nn.Module, batch: Batch | None = None) -> bool:
    """Whether the model can be saved, loaded and, on ``batch``, run with the same bits; the file is removed."""
    return _passed(LoadRunValidator(), quantized, batch)


def _passed(validator: Validator, model: nn.Module, batch: Batch | None = None) -> bool:
    return all(finding.status == "passed" for finding in validator.validate(_context(model, model, batch)))


def _context(original: nn.Module, quantized: nn.Module, batch: Batch | None) -> ValidationContext:
    return ValidationContext(
        original=original,
        quantized=quantized,
        plan=None,
        batch=batch,
        run=run_once,
        float_layer=_unchanged_layers(original, quantized).get,
        save=lambda path: SafetensorsFormat().save(to_artifact(quantized), path),
        load=lambda path: _load_into_copy(quantized, path),
    )


def _unchanged_layers(original: nn.Module, quantized: nn.Module) -> dict[str, nn.Module]:
    """The float layers by name, without those that a rewrite changed before they were quantized."""
    manifest: Manifest | None = getattr(quantized, MANIFEST_ATTRIBUTE, None)
    changed = {name for rewrite in manifest.rewrites for name in rewrite.layers} if manifest else set()
    return {n: module for n, module in original.named_modules(remove_duplicate=False) if n not in changed}


def _load_into_copy(model: nn.Module, path: Path) -> nn.Module:
    """A copy of a model with the tensors of a file in it."""
    loaded = copy_with(model, {})
    try:
        loaded.load_state_dict(expand_ties(SafetensorsFormat().load(path)), strict=True)
    except RuntimeError as error:
        raise ArtifactError(f"the file does not fit the model: {error}") from error
    return loaded
