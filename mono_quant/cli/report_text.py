"""Two reports beside each other, as text."""

from collections.abc import Iterator

from mono_quant._columns import columns
from mono_quant.compare_reports import Change, LayerChange, ReportComparison

__all__ = ["report_text"]

_FIGURES = {
    "output_sqnr_db": ("output dB", 1),
    "weight_sqnr_db": ("weight dB", 1),
    "saturation_percent": ("clipped %", 2),
    "range_used_percent": ("range %", 0),
    "outlier_channels": ("outliers", 0),
}
"""Figure of a layer → its head and how many digits are shown."""
_TOTALS = {
    "sqnr_db": ("output SQNR, dB", 1),
    "weight_sqnr_db": ("weight SQNR, dB", 1),
    "original_size_mb": ("float size, MB", 2),
    "quantized_size_mb": ("quantized size, MB", 2),
    "compression_ratio": ("times smaller", 2),
    "original_latency_ms": ("float latency, ms", 2),
    "quantized_latency_ms": ("quantized latency, ms", 2),
}
_NOTICEABLE_DB = 0.1


def report_text(found: ReportComparison) -> str:
    """A table of the layers, one of the whole runs, and how many layers are better and worse."""
    layers = columns(_layer_rows(found), right=range(1, 1 + len(_FIGURES)))
    totals = columns(_total_rows(found), right=[1, 2, 3])
    return "\n".join([layers, "", totals, "", _verdict(found)])


def _layer_rows(found: ReportComparison) -> Iterator[tuple[str, ...]]:
    yield "layer", *(head for head, _ in _FIGURES.values()), "chosen otherwise"
    for layer in found.layers:
        cells = (_step(layer.figures[name], digits) for name, (_, digits) in _FIGURES.items())
        yield layer.name or "(model)", *cells, _choices(layer)


def _total_rows(found: ReportComparison) -> Iterator[tuple[str, ...]]:
    yield "whole run", "first", "second", "change"
    for name, (head, digits) in _TOTALS.items():
        one = found.totals[name]
        yield head, _number(one.first, digits), _number(one.second, digits), _signed(one.difference, digits)


def _verdict(found: ReportComparison) -> str:
    changes = [layer.figures["output_sqnr_db"].difference for layer in found.layers]
    known = [change for change in changes if change is not None]
    better, worse = (sum(sign * change >= _NOTICEABLE_DB for change in known) for sign in (1, -1))
    unknown = f", {len(changes) - len(known)} cannot be compared" if len(known) < len(changes) else ""
    return (
        f"output SQNR: {better} layers better by {_NOTICEABLE_DB} dB or more, {worse} worse, "
        f"{len(known) - better - worse} as before{unknown}"
    )


def _choices(layer: LayerChange) -> str:
    if layer.only_in:
        return f"quantized in the {layer.only_in} only"
    return "; ".join(f"{name} {first} -> {second}" for name, (first, second) in layer.choices.items())


def _step(change: Change, digits: int) -> str:
    """``31.2 -> 35.0``; one number where both are the same."""
    first, second = _number(change.first, digits), _number(change.second, digits)
    return first if first == second else f"{first} -> {second}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:+.{digits}f}"
