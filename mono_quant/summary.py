"""What a run leaves behind: its figures for people, and its manifest for the file."""

import math
from collections.abc import Mapping

from torch import nn

from mono_quant.advice import advise
from mono_quant.calibration.timing import time_in_turns
from mono_quant.config import QuantizationConfig
from mono_quant.info import QuantizationInfo
from mono_quant.io.fingerprint import fingerprint
from mono_quant.io.manifest import CalibrationRecord, Manifest
from mono_quant.io.validation import ValidationResult
from mono_quant.modules import KernelModule, QuantizedModule
from mono_quant.plugin_api import Batch
from mono_quant.run import Run

__all__ = ["make_info", "make_manifest", "measure_latency"]


def make_info(
    run: Run,
    config: QuantizationConfig,
    *,
    layers: Mapping[str, nn.Module],
    validation: ValidationResult | None,
    latency_ms: tuple[float, float] | None,
    versions: Mapping[str, str],
) -> QuantizationInfo:
    """The figures.

    Args:
        run: with the plan as it was carried out.
        config: what was asked for.
        layers: the new modules, by name, after they have run.
        validation: what the validators found.
        latency_ms: of the float and the quantized model, where both were timed.
        versions: of what took part.
    """
    kernels = {name: layer.kernels_in_use for name, layer in layers.items() if isinstance(layer, QuantizedModule)}
    first = next(iter(next(iter(run.plan.layers.values())).weights.values()))
    figures = validation or ValidationResult()
    return QuantizationInfo(
        selected_layers=tuple(run.plan.layers),
        skipped_layers=run.plan.kept,
        folded_layers={name: removed.into for name, removed in run.plan.removed.items()},
        calibration_samples_used=run.batches,
        dtype=first.dtype.name,
        symmetric=first.symmetric,
        sqnr_db=figures.sqnr_db,
        original_size_mb=figures.original_size_mb,
        quantized_size_mb=figures.quantized_size_mb,
        compression_ratio=figures.compression_ratio,
        kernels=kernels,
        fused_layers=tuple(
            name
            for name, plan in run.plan.layers.items()
            if plan.handover != "float" and isinstance(layer := layers[name], KernelModule) and layer.engine.has_fused
        ),
        original_latency_ms=None if latency_ms is None else latency_ms[0],
        quantized_latency_ms=None if latency_ms is None else latency_ms[1],
        warnings=advise(run, config, figures=figures, layers=layers, latency_ms=latency_ms),
        versions=versions,
    )


def make_manifest(
    run: Run, config: QuantizationConfig, *, validation: ValidationResult | None, versions: dict[str, str]
) -> Manifest:
    """The manifest; the arguments are those of `make_info`.

    The SQNR of the output is left out: it depends on the kernels, which are chosen by time.
    """
    figures = validation or ValidationResult()
    return Manifest(
        config=config,
        layers=run.plan.layers,
        kept=run.plan.kept,
        rewrites=run.plan.rewrites,
        ties={},
        versions=versions,
        metrics={
            "original_size_mb": figures.original_size_mb,
            "quantized_size_mb": figures.quantized_size_mb,
            "compression_ratio": figures.compression_ratio,
            "sqnr_db": _settled(figures.weight_sqnr_db),
        },
        layer_sqnr_db={name: _settled(value) for name, value in figures.layer_sqnr_db.items()},
        calibration=None
        if run.first is None
        else CalibrationRecord(batches=run.batches, first_batch_sha256=fingerprint(run.first)),
    )


def measure_latency(
    model: nn.Module, quantized: nn.Module, batch: Batch, *, budget_s: float = 1.0
) -> tuple[float, float]:
    """Median milliseconds of a batch in either model, run in turn; each run begins from the same state.

    Args:
        model: the float model.
        quantized: the quantized one.
        batch: a real batch.
        budget_s: as in `take_turns`.

    Raises:
        CalibrationError: when a model does not run on it.
    """
    float_ms, quantized_ms = time_in_turns([model, quantized], batch, budget_s=budget_s)
    return float_ms, quantized_ms


def _settled(figure: float | None) -> float | None:
    """SQNR of weights for the file: without digits that nobody needs, and None where JSON has no number for it."""
    return None if figure is None or not math.isfinite(figure) else round(figure, 1)
