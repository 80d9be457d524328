"""What could make a layer better, from its figures: the first thing that they speak for."""

import math

from mono_quant.component import Component
from mono_quant.config import QuantizationConfig
from mono_quant.core.granularity import PerTensor
from mono_quant.layer_report.record import LayerReport
from mono_quant.plugin_api import LayerPlan

__all__ = ["hint_of"]

_GOOD_DB = 30.0
"""From here on the noise is a thousandth of the output's power, and needs no advice."""
_BY_THE_INPUT_DB = 6.0
"""Where the output is worse than the weights by more than this, rounding the input makes most of the noise."""
_MUCH_CLIPPED = 1.0
_LITTLE_USED = 50.0
_MOSTLY_SHIFT = 50.0
"""Percent."""
_LAYERS = ("Linear", "SmoothedLinear", "Conv1d", "Conv2d", "Conv3d")
"""Those that algorithms refine."""
_ROUND = {"gptq", "adaround"}
"""Algorithms that choose the codes of weights, of which one is enough."""


def hint_of(layer: LayerReport, plan: LayerPlan, config: QuantizationConfig, *, is_tied: bool = False) -> str:
    """One sentence; empty when the output is good, or nothing is known of it.

    Args:
        layer: with all figures.
        plan: how it is quantized.
        config: what was asked for.
        is_tied: whether it shares a weight: algorithms leave such layers as they are.
    """
    sqnr_db = layer.output_sqnr_db
    if sqnr_db is None or sqnr_db >= _GOOD_DB:
        return ""
    if math.isnan(sqnr_db):
        return "its output is not finite on the first batch: look at the data, or keep it in float"
    algorithms = set() if is_tied else _further(layer, {algorithm.name for algorithm in config.algorithms})
    weights_db = layer.weight_sqnr_db
    is_by_input = plan.input is not None and (weights_db is None or sqnr_db < weights_db - _BY_THE_INPUT_DB)
    shift = layer.shift_percent or 0.0
    if is_by_input and (hint := _of_input(layer, algorithms)):
        return hint
    if shift >= _MOSTLY_SHIFT and "bias-correction" in algorithms:
        return f"{shift:.0f} % of its error is the same in every row: add the algorithm 'bias-correction'"
    if is_by_input:  # where nothing is known of the weights, they may as well be to blame
        cure = "rounding its input loses the most: quantize its weights alone there, or keep it in float"
        return "" if weights_db is None else cure
    return _of_weights(plan, algorithms)


def _further(layer: LayerReport, used: set[str]) -> set[str]:
    """The algorithms that do something for a layer of its kind, and are not used yet."""
    refining = {"bias-correction", *(() if used & _ROUND else ("gptq",))} if layer.layer_type in _LAYERS else set()
    return (refining | ({"smoothquant"} if layer.layer_type == "Linear" else set())) - used


def _of_input(layer: LayerReport, algorithms: set[str]) -> str:
    observer = None if layer.observer is None else Component.of(layer.observer).name
    clipped, used = layer.saturation_percent, layer.range_used_percent
    if clipped is not None and clipped >= _MUCH_CLIPPED and observer is not None:
        cure = "calibrate with more of the data" if observer == "minmax" else _try("mse", "minmax", instead_of=observer)
        return f"{clipped:.1f} % of its input is clipped: {cure}"
    if layer.outlier_channels and "smoothquant" in algorithms:
        return (
            f"{layer.outlier_channels} of {layer.input_channels} channels of its input are outliers: add the algorithm "
            "'smoothquant'"
        )
    if used is not None and used < _LITTLE_USED and observer is not None:
        cure = _try("mse", "histogram", "percentile", instead_of=observer)
        return f"nearly all of its input is in {used:.0f} % of the range: {cure}"
    return ""


def _try(*observers: str, instead_of: str) -> str:
    return f"try observer {' or '.join(repr(name) for name in observers if name != instead_of)}"


def _of_weights(plan: LayerPlan, algorithms: set[str]) -> str:
    specs = list(plan.weights.values())
    if any(spec.is_scaled and isinstance(spec.granularity, PerTensor) for spec in specs):
        return "one scale serves its whole weight: give each channel its own"
    if any(spec.dtype.is_packed for spec in specs):
        if "gptq" in algorithms:
            return "few bits for its weights: add the algorithm 'gptq', or use more bits there"
        return "few bits for its weights: use smaller groups or more bits there"
    return "its weights lose the most: keep it in float"
