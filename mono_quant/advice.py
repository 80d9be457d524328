"""What the owner of a model should know after a run, most pressing first."""

import math
from collections.abc import Iterator, Mapping
from shlex import quote
from statistics import median

import torch
from torch import nn

from mono_quant._size import size_text
from mono_quant.config import QuantizationConfig
from mono_quant.core.tensors import iter_tensors
from mono_quant.io.validation import ValidationResult
from mono_quant.kernels.select import supports
from mono_quant.modules import QuantizedModule
from mono_quant.modules.kernel_module import KernelModule
from mono_quant.modules.weight_only_linear import LinearByKernel
from mono_quant.plugin_api import LayerPlan, Plan, WeightOnlyOp
from mono_quant.run import Run

__all__ = ["advise"]

_LOW_SQNR_DB = 10.0
_DOUBTFUL_SQNR_DB = 20.0
"""Output SQNR below which something is wrong, and below which it is worth saying what could help."""
_OUTLIER_DB = 12.0
"""A layer whose weights are this much worse than the median layer's has a few that are far larger than the others."""
_TINY = 1024
"""Fewer weights than this are not worth their scales and the time to quantize their input."""
_FEW_ROWS = 16
"""Ranges of fewer rows of data say little; 100 to 200 samples are the usual advice."""
_SHARE_OF_IDEAL = 0.6
"""Of the compression that the codes alone would give."""


def advise(
    run: Run,
    config: QuantizationConfig,
    *,
    figures: ValidationResult,
    layers: Mapping[str, nn.Module],
    latency_ms: tuple[float, float] | None,
) -> tuple[str, ...]:
    """Sentences for people, each with what to do.

    Args:
        run: with the plan as it was carried out.
        config: what was asked for.
        figures: what the validators found.
        layers: the new modules, by name, after they have run.
        latency_ms: of the float and the quantized model, where both were timed.
    """
    return (
        *_low_sqnr(run.plan, config, figures),
        *_slower(run.plan, latency_ms),
        *_not_small(run.plan, figures),
        *_outliers(figures),
        *_few_samples(run),
        *_tiny(run.plan),
        *_without_data(run),
        *_other_kernels(config.kernel, layers),
    )


def _low_sqnr(plan: Plan, config: QuantizationConfig, figures: ValidationResult) -> Iterator[str]:
    if figures.sqnr_db is None or not figures.sqnr_db < _DOUBTFUL_SQNR_DB:
        return
    level = "very low" if figures.sqnr_db < _LOW_SQNR_DB else "low"
    text = f"SQNR of {figures.sqnr_db:.1f} dB is {level}"
    last = next(reversed(plan.layers))
    smoothable = [layer for layer in plan.layers.values() if layer.layer_type == "Linear" and layer.input is not None]
    if 2 * len(smoothable) > len(plan.layers) and not any(wanted.name == "smoothquant" for wanted in config.algorithms):
        text += (
            "; most layers are linear, whose inputs may have outliers: try algorithms=['bn-fold', 'smoothquant'] "
            "(--algorithm bn-fold --algorithm smoothquant)"
        )
    elif not any(entry.parameter_bytes and entry.name in plan.kept for entry in plan.entries):
        text += f"; every layer is quantized, the output layer too: try exclude=[{last!r}] (--exclude {quote(last)})"
    else:
        text += ": keep the layers of lowest SQNR in float, or give them more bits with overrides"
    yield text


def _slower(plan: Plan, latency_ms: tuple[float, float] | None) -> Iterator[str]:
    if latency_ms is not None and latency_ms[1] > latency_ms[0]:
        has_integers = any(layer.input is not None for layer in plan.layers.values())
        why = (
            "the layers are too small for what quantizing their inputs costs"
            if has_integers
            else "weights alone are quantized, which saves memory and not time"
        )
        yield (
            f"the quantized model is slower than float here ({latency_ms[1]:.2f} ms against {latency_ms[0]:.2f} ms a "
            f"batch): {why}"
        )


def _not_small(plan: Plan, figures: ValidationResult) -> Iterator[str]:
    ratio = figures.compression_ratio
    if ratio is None:
        return
    if ratio <= 1:
        yield "the quantized model is not smaller: scales and zero points weigh more than what its small weights lose"
        return
    specs = [spec for layer in plan.layers.values() for spec in layer.weights.values()]
    before = sum(math.prod(spec.shape) * getattr(torch, spec.float_dtype).itemsize for spec in specs)
    after = sum(math.prod(spec.shape) * spec.dtype.bits / 8 for spec in specs)
    kept = [entry for entry in plan.entries if entry.name in plan.kept and entry.parameter_bytes]
    if after and kept and ratio < _SHARE_OF_IDEAL * before / after:
        largest = max(kept, key=lambda entry: entry.parameter_bytes)
        yield (
            f"only {ratio:.2f} times smaller of {before / after:.1f} that the codes could give: {largest.layer_type} "
            f"{largest.name or '(model)'!r} alone keeps {size_text(largest.parameter_bytes / 2**20)} in float: "
            f"{plan.kept[largest.name]}"
        )


def _outliers(figures: ValidationResult) -> Iterator[str]:
    known = {name: value for name, value in figures.layer_sqnr_db.items() if math.isfinite(value)}
    if len(known) < 3:  # noqa: PLR2004 - of two there is no median
        return
    middle = median(known.values())
    for name, value in known.items():
        if value < middle - _OUTLIER_DB:
            yield (
                f"the weights of {name or '(model)'!r} keep {value:.1f} dB, the median layer {middle:.1f}: a few of "
                "them are far larger than the others; use smaller groups there, or keep it in float"
            )


def _few_samples(run: Run) -> Iterator[str]:
    if run.first is None or not any(layer.needs_data for layer in run.plan.layers.values()):
        return
    rows = next((len(x) for x in iter_tensors((run.first.args, dict(run.first.kwargs))) if x.ndim), 1) * run.batches
    if rows < _FEW_ROWS:
        yield f"ranges come from {rows} rows of data in {run.batches} batches: 100 to 200 are the usual advice"


def _tiny(plan: Plan) -> Iterator[str]:
    tiny = [name for name, layer in plan.layers.items() if _weights(layer) < _TINY]
    if tiny and len(tiny) < len(plan.layers):
        shown = ", ".join(map(repr, tiny[:3])) + (", ..." if tiny[3:] else "")
        yield (
            f"{len(tiny)} layers have fewer than {_TINY} weights ({shown}): min_parameters={_TINY} keeps them in float"
        )


def _weights(layer: LayerPlan) -> int:
    return sum(math.prod(spec.shape) for spec in layer.weights.values())


def _without_data(run: Run) -> Iterator[str]:
    if run.first is None:
        text = "no data was given: outputs were not compared, nothing was folded, and the data flow was not watched"
        if any(layer.input is not None for layer in run.plan.layers.values()):
            text += (
                ". A forward that reads layer.weight itself, or its dtype, gets int8 codes and fails, or is wrong, "
                "when it runs: give calibration_data, one batch is enough to find out"
            )
        yield text


def _other_kernels(wanted: str, layers: Mapping[str, nn.Module]) -> Iterator[str]:
    quantized = {name: layer for name, layer in layers.items() if isinstance(layer, QuantizedModule)}
    chosen = {name: layer.kernels_in_use for name, layer in quantized.items()}
    others = sorted(name for name, used in chosen.items() if wanted != "auto" and used and wanted not in used)
    if others:
        reasons = [*dict.fromkeys(filter(None, (_why_not(wanted, quantized[name]) for name in others)))]
        shown = "; ".join(reasons[:2]) + ("; ..." if reasons[2:] else "")
        text = f"kernel {wanted!r} does not support {len(others)} layers, which use another: {others[:3]}"
        yield f"{text}: {shown}" if shown else text


def _why_not(wanted: str, layer: QuantizedModule) -> str:
    """Why a kernel does not run a layer; empty where the layer does not have its arithmetic in one op."""
    if not isinstance(layer, KernelModule | LinearByKernel):
        return ""
    op = layer.op()
    device = op.stored[""].device if isinstance(op, WeightOnlyOp) else op.weight.device
    return supports(dict(layer.engine.kernels)[wanted], op, device).why_not
