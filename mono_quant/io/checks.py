"""The four built-in checks of a quantized model, as validators."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mono_quant.calibration.runner import call, evaluating
from mono_quant.core.qtypes import UINT8
from mono_quant.core.sqnr import energy, ratio_db, sum_sqnr_db
from mono_quant.core.tensors import iter_tensors
from mono_quant.errors import MonoQuantError
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api.source import Batch
from mono_quant.plugin_api.validator import ValidationContext, ValidationFinding, Validator

__all__ = ["LoadRunValidator", "SizeValidator", "SqnrValidator", "WeightRangeValidator", "calculate_model_size"]

_MB = 2**20


class SqnrValidator(Validator):
    """SQNR of each layer's weights, of all of them together, and of the model's output on a calibration batch.

    Args:
        minimum: the output SQNR in dB below which the check fails; None only reports.
    """

    def __init__(self, *, minimum: float | None = None) -> None:
        self.minimum = minimum

    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        """``weight-sqnr`` and ``output-sqnr``, in dB."""
        energies = {name: energy(*pair) for name, pair in weight_pairs(context)}
        total = (sum(signal for signal, _ in energies.values()), sum(noise for _, noise in energies.values()))
        weights = ValidationFinding(
            name="weight-sqnr",
            status="passed" if energies else "skipped",
            value=ratio_db(*total) if energies else None,
            unit="dB",
            message="" if energies else "no quantized layer whose float weight is known",
            layers={name: ratio_db(*pair) for name, pair in energies.items()},
        )
        return [weights, self._output(context)]

    def _output(self, context: ValidationContext) -> ValidationFinding:
        if context.batch is None:
            return _skipped("output-sqnr", "no calibration batch to run the models on")
        expected = list(iter_tensors(run_once(context.original, context.batch)))
        actual = list(iter_tensors(run_once(context.quantized, context.batch)))
        pairs = [(x, y) for x, y in zip(expected, actual, strict=False) if x.is_floating_point() and x.shape == y.shape]
        if not pairs or len(expected) != len(actual):
            return _skipped("output-sqnr", "the model's output holds no float tensors that can be compared")
        value = sum_sqnr_db(pairs)
        if math.isnan(value):
            return ValidationFinding(
                name="output-sqnr", status="failed", value=value, unit="dB", message="the output is not finite"
            )
        if self.minimum is not None and value < self.minimum:
            return ValidationFinding(
                name="output-sqnr", status="failed", value=value, unit="dB",
                message=f"output SQNR {value:.1f} dB is below {self.minimum} dB: keep sensitive layers in float",
            )  # fmt: skip
        return ValidationFinding(name="output-sqnr", status="passed", value=value, unit="dB")


class SizeValidator(Validator):
    """Bytes of parameters and buffers, before and after."""

    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        """``original-size`` and ``quantized-size`` in MB, ``compression-ratio``."""
        before, after = (calculate_model_size(model)[0] for model in (context.original, context.quantized))
        is_smaller = after < before
        return [
            ValidationFinding(name="original-size", status="passed", value=before, unit="MB"),
            ValidationFinding(name="quantized-size", status="passed", value=after, unit="MB"),
            ValidationFinding(
                name="compression-ratio",
                status="passed" if is_smaller else "failed",
                value=before / after if after else math.inf,
                unit="x",
                message=""
                if is_smaller
                else f"the quantized model is not smaller: {after:.3f} MB, was {before:.3f} MB",
            ),
        ]


class WeightRangeValidator(Validator):
    """Codes inside the scheme's range, scales finite and positive, zero points in range, every float tensor finite."""

    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        """``weight-range``."""
        wrong = list(_range_errors(context.quantized))
        return [
            ValidationFinding(name="weight-range", status="failed" if wrong else "passed", message="; ".join(wrong))
        ]


class LoadRunValidator(Validator):
    """Saves the model, loads it and runs both on a real calibration batch: the same bits in every tensor and output."""

    def validate(self, context: ValidationContext) -> Sequence[ValidationFinding]:
        """``load-run``."""
        try:
            message = _load_run_error(context)
        except MonoQuantError as error:
            message = f"the saved model cannot be loaded: {error}"
        if not message and context.batch is None:
            message = "tensors are the same bit for bit; outputs not compared: no calibration batch"
            return [ValidationFinding(name="load-run", status="passed", message=message)]
        return [ValidationFinding(name="load-run", status="failed" if message else "passed", message=message)]


def calculate_model_size(model: nn.Module) -> tuple[float, int]:
    """``(MB, parameter count)``: MB = 2^20 bytes of parameters and buffers, shared ones once.

    The codes of a quantized layer are counted as the parameters that they stand for.
    """
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    codes = {id(module.weight): module.weight for module in model.modules() if isinstance(module, QuantizedModule)}
    counted = {id(p): p for p in model.parameters()} | codes
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return size / _MB, sum(tensor.numel() for tensor in counted.values())


def weight_pairs(context: ValidationContext) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """For each quantized layer the float weight that was quantized and the dequantized one, by layer name."""
    for name, module in context.quantized.named_modules():
        if isinstance(module, QuantizedModule):
            weight = getattr(context.float_layer(name), "weight", None)
            if isinstance(weight, Tensor) and weight.shape == module.weight.shape:
                yield name, (weight, module.dequantized_weight())


def run_once(model: nn.Module, batch: Batch) -> Any:  # noqa: ANN401 - whatever the model returns
    """The model's output in eval mode, without gradients, random numbers the same in each call."""
    with evaluating(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return call(model, batch, "the calibration batch kept for validation")


def _skipped(name: str, why: str) -> ValidationFinding:
    return ValidationFinding(name=name, status="skipped", message=why)


def _range_errors(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        if isinstance(module, QuantizedModule):
            if bool((module.weight == -128).any()):  # noqa: PLR2004 - int8's lowest code, outside [-127, 127]
                yield f"{name}.weight has codes below -127"
            for label, scale in (("weight_scale", module.weight_scale), ("input_scale", module.input_scale)):
                if scale is not None and not bool((torch.isfinite(scale) & (scale > 0)).all()):
                    yield f"{name}.{label} is not finite and positive"
            zero_point = module.input_zero_point
            if zero_point is not None and not UINT8.qmin <= int(zero_point) <= UINT8.qmax:
                yield f"{name}.input_zero_point {int(zero_point)} is outside [{UINT8.qmin}, {UINT8.qmax}]"
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            yield f"{name} is not finite"


def _load_run_error(context: ValidationContext) -> str:
    """What differs after saving and loading; empty when nothing does."""
    with tempfile.TemporaryDirectory(prefix="mono_quant-") as folder:
        loaded = context.reload(Path(folder) / "model.safetensors")
        before, after = context.quantized.state_dict(), loaded.state_dict()
        if set(before) != set(after):
            return f"tensors {sorted(set(before) ^ set(after))} are on one side only after loading"
        for name, tensor in before.items():
            if not _same_bits(tensor, after[name]):
                return f"tensor {name} differs after loading"
        if context.batch is None:
            return ""
        expected = list(iter_tensors(run_once(context.quantized, context.batch)))
        for module in context.quantized.modules():
            if isinstance(module, QuantizedModule):
                module.repack()  # two packed copies of the weights need not be in memory at once
        actual = list(iter_tensors(run_once(loaded, context.batch)))
    if len(expected) != len(actual) or not all(map(_same_bits, expected, actual)):
        return "the loaded model gives another output on the calibration batch"
    return ""


def _same_bits(x: Tensor, y: Tensor) -> bool:
    """Equal in dtype, shape and every bit; NaN equals NaN."""
    return x.dtype == y.dtype and x.shape == y.shape and bool(torch.equal(x, y) or torch.equal(_bits(x), _bits(y)))


def _bits(x: Tensor) -> Tensor:
    return x.detach().contiguous().flatten().view(torch.uint8) if x.numel() else x
