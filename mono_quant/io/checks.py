"""The four built-in checks of a quantized model, as validators."""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mono_quant.calibration.runner import call, evaluating
from mono_quant.calibration.state import restoring
from mono_quant.core.blocks import row_blocks
from mono_quant.core.encoding import channels_of, decode_channels
from mono_quant.core.originals import Writes
from mono_quant.core.qtypes import UINT8
from mono_quant.core.sqnr import energy, ratio_db, sum_sqnr_db, without_common_infinities
from mono_quant.core.surgery import copy_with
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.core.tensors import iter_tensors, same_bits
from mono_quant.errors import MonoQuantError
from mono_quant.modules import KernelModule, QuantizedModule
from mono_quant.plugin_api.source import Batch
from mono_quant.plugin_api.validator import ValidationContext, ValidationFinding, Validator

__all__ = [
    "LoadRunValidator",
    "SizeValidator",
    "SqnrValidator",
    "WeightRangeValidator",
    "calculate_model_size",
    "run_once",
]

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
        energies = dict(weight_energies(context))
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
        expected, actual = (run_once(model, context.batch) for model in (context.original, context.quantized))
        if [x.shape for x in expected] != [y.shape for y in actual]:
            message = "the quantized model's output holds other tensors than the float model's"
            return ValidationFinding(name="output-sqnr", status="failed", unit="dB", message=message)
        pairs = [(x, y) for x, y in zip(expected, actual, strict=True) if x.is_floating_point()]
        if not pairs:
            return _skipped("output-sqnr", "the model's output holds no float tensors")
        value = sum_sqnr_db(without_common_infinities(*pair) for pair in pairs)
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
        """``original-size`` and ``quantized-size`` in MB, ``compression-ratio``; figures, nothing that can fail."""
        before, after = (calculate_model_size(model)[0] for model in (context.original, context.quantized))
        ratio = before / after if after else math.inf
        return [
            ValidationFinding(name="original-size", status="passed", value=before, unit="MB"),
            ValidationFinding(name="quantized-size", status="passed", value=after, unit="MB"),
            ValidationFinding(name="compression-ratio", status="passed", value=ratio, unit="x"),
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
            message = f"the model cannot be saved and loaded: {error}"
        if not message and not _has_comparable_output(context):
            message = "tensors are the same bit for bit; outputs not compared: no batch, or no tensors in the output"
            return [ValidationFinding(name="load-run", status="passed", message=message)]
        return [ValidationFinding(name="load-run", status="failed" if message else "passed", message=message)]


def calculate_model_size(model: nn.Module) -> tuple[float, int]:
    """``(MB, parameter count)``: MB = 2^20 bytes of parameters and buffers, shared ones once.

    The codes and the bias of a quantized layer are counted as the parameters that they stand for.
    """
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return size / _MB, sum(_parameter_counts(model).values())


def _parameter_counts(model: nn.Module) -> dict[int, int]:
    """Identity of each parameter, or of the codes that stand for one → how many numbers it has."""
    counts: dict[int, int] = {}
    for module in model.modules():
        specs = module.weight_specs if isinstance(module, QuantizedModule) else {}
        stored = {name + suffix for name, spec in specs.items() for suffix in spec.layout}
        for name, parameter in module.named_parameters(recurse=False):
            if name not in stored:
                counts[id(parameter)] = parameter.numel()
        if isinstance(module, QuantizedModule):
            counts.update((id(module.stored(name)[""]), math.prod(spec.shape)) for name, spec in specs.items())
    return counts


def weight_energies(context: ValidationContext) -> Iterator[tuple[str, tuple[float, float]]]:
    """For each quantized layer, by name: energy of the float weight that was quantized, and of what it lost."""
    for name, module in context.quantized.named_modules():
        if isinstance(module, QuantizedModule):
            parts = list(_energies(module, context.float_layer(name)))
            if parts:
                yield name, (sum(signal for signal, _ in parts), sum(noise for _, noise in parts))


def _energies(module: QuantizedModule, original: nn.Module | None) -> Iterator[tuple[float, float]]:
    """The same for blocks of one layer's weights; nothing where a float weight is not known."""
    for name, spec in module.weight_specs.items():
        weight = getattr(original, name, None)
        if not isinstance(weight, Tensor) or tuple(weight.shape) != spec.shape:
            return
        floats, stored = channels_of(weight.detach(), spec), module.stored(name)
        for block in row_blocks(floats):
            yield energy(floats[block], decode_channels(stored, spec, block))


def run_once(model: nn.Module, batch: Batch) -> list[Tensor]:
    """The tensors of the model's output in eval mode, without gradients, random numbers the same in each call.

    It gets a copy of the batch, since a model may write into its inputs, and is afterwards as it was before.
    """
    with evaluating(model), restoring(model) as state, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with Writes(state.originals):
            output = call(model, batch.clone(), "the calibration batch kept for validation")
        return [x.clone() if state.originals.share_memory_with(x) else x for x in iter_tensors(output)]


def _skipped(name: str, why: str) -> ValidationFinding:
    return ValidationFinding(name=name, status="skipped", message=why)


def _range_errors(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        if isinstance(module, QuantizedModule):
            for weight, spec in module.weight_specs.items():
                yield from _weight_errors(f"{name}.{weight}", module.stored(weight), spec)
        if isinstance(module, KernelModule):
            scale, zero_point = module.input_scale, module.input_zero_point
            if scale is not None and not _is_positive(scale):
                yield f"{name}.input_scale is not finite and positive"
            if zero_point is not None and not UINT8.qmin <= int(zero_point) <= UINT8.qmax:
                yield f"{name}.input_zero_point {int(zero_point)} is outside [{UINT8.qmin}, {UINT8.qmax}]"
    for name, tensor in model.state_dict().items():
        if _is_dense_float(tensor) and not _is_finite(tensor):
            yield f"{name} is not finite"


def _weight_errors(name: str, stored: Mapping[str, Tensor], spec: WeightSpec) -> Iterator[str]:
    codes, scale, zero_point = (stored.get(suffix) for suffix in ("", "_scale", "_zero_point"))
    if codes is not None and codes.dtype == torch.int8 and codes.numel() and int(codes.min()) < spec.code_type.qmin:
        yield f"{name} has codes below {spec.code_type.qmin}"
    if scale is not None and not _is_positive(scale):
        yield f"{name}_scale is not finite and positive"
    if zero_point is not None and not bool(((zero_point >= spec.dtype.qmin) & (zero_point <= spec.dtype.qmax)).all()):
        yield f"{name}_zero_point is outside [{spec.dtype.qmin}, {spec.dtype.qmax}]"


def _is_positive(scale: Tensor) -> bool:
    return bool((torch.isfinite(scale) & (scale > 0)).all())


def _is_dense_float(value: object) -> bool:
    return (
        isinstance(value, Tensor) and value.is_floating_point() and value.layout is torch.strided and value.numel() > 0
    )


def _is_finite(tensor: Tensor) -> bool:
    """Whether every number is, without a mask of the tensor's size: a NaN or an infinity shows in the two ends."""
    rows = tensor.detach() if tensor.ndim else tensor.detach()[None]
    ends = (torch.stack(torch.aminmax(rows[block].float())) for block in row_blocks(rows))  # float8 has no aminmax
    return all(bool(torch.isfinite(pair).all()) for pair in ends)


def _load_run_error(context: ValidationContext) -> str:
    """What differs after saving and loading; empty when nothing does."""
    with tempfile.TemporaryDirectory(prefix="mono_quant-") as folder:
        path = Path(folder) / "model.safetensors"
        context.save(path)
        return _tensor_difference(context, path) or _output_difference(context, path)


def _has_comparable_output(context: ValidationContext) -> bool:
    return context.batch is not None and bool(run_once(context.quantized, context.batch))


def _tensor_difference(context: ValidationContext, path: Path) -> str:
    before, after = context.quantized.state_dict(), context.load(path).state_dict()
    if set(before) != set(after):
        return f"tensors {sorted(set(before) ^ set(after))} are on one side only after loading"
    different = [name for name, tensor in before.items() if not same_bits(tensor, after[name])]
    return f"tensors differ after loading: {', '.join(different)}" if different else ""


def _output_difference(context: ValidationContext, path: Path) -> str:
    if context.batch is None:
        return ""
    expected = run_once(context.quantized, context.batch)
    for module in context.quantized.modules():
        if isinstance(module, QuantizedModule):
            module.repack()  # the packed weights of two models need not be in memory at once
    # Loaded once more: what the comparison of the tensors has read of the file's memory map is let go.
    loaded = context.load(path)
    if _gives(loaded, context.batch, expected):
        return ""
    # In the file's memory map tensors begin anywhere, and the last bits of a float sum may depend on where.
    if _gives(copy_with(loaded, {}), context.batch, expected):
        return ""
    return "the loaded model gives another output on the calibration batch"


def _gives(model: nn.Module, batch: Batch, expected: Sequence[Tensor]) -> bool:
    actual = run_once(model, batch)
    return len(expected) == len(actual) and all(map(same_bits, expected, actual))
