"""The layers of a run as text."""

import math
from collections.abc import Sequence

from mono_quant._columns import columns
from mono_quant.component import Component
from mono_quant.layer_report.record import LayerReport

__all__ = ["layer_table", "worst_layer"]

_HEAD = ("layer", "type", "scheme", "observer", "weight dB", "output dB", "clipped %", "range %", "outliers", "hint")


def layer_table(layers: Sequence[LayerReport]) -> str:
    """One line a layer."""
    return columns([_HEAD, *map(_row, layers)], right=range(4, 9))


def worst_layer(layers: Sequence[LayerReport]) -> LayerReport | None:
    """The one of the lowest output SQNR that has a hint; None when no layer has one."""
    hinted = [layer for layer in layers if layer.hint]
    return min(hinted, key=lambda layer: _rank(layer.output_sqnr_db), default=None)


def _rank(sqnr_db: float | None) -> float:
    return -math.inf if sqnr_db is None or math.isnan(sqnr_db) else sqnr_db


def _row(layer: LayerReport) -> tuple[str, ...]:
    return (
        layer.name or "(model)",
        layer.layer_type,
        layer.scheme,
        "-" if layer.observer is None else Component.of(layer.observer).name,
        _number(layer.weight_sqnr_db, 1),
        _number(layer.output_sqnr_db, 1),
        _number(layer.saturation_percent, 2),
        _number(layer.range_used_percent, 0),
        "-" if layer.outlier_channels is None else f"{layer.outlier_channels} of {layer.input_channels}",
        layer.hint,
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
