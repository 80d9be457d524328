"""The plots, as the bytes of PNG files.

Every plot is a figure of its own, drawn with matplotlib's defaults whatever the user has set, and without dates.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from mono_quant_report.contents import DrawnWeight
from mono_quant_report.figures import Ends, bins_for
from mono_quant_report.inputs import SeenInput
from mono_quant_report.text import decibels, printable, shortened

__all__ = ["channel_plot", "histogram_plot", "input_plot", "sqnr_plot"]

FLOAT, CODES, BAND, BAD = "#8a97a6", "#0b62c4", "#f6cf98", "#c0392b"
_FONT = "DejaVu Sans"  # comes with matplotlib
_DPI = 144
_WIDTH = 6.0
_LABEL = 30
_IN_ORDER = 100
"""How many channels are drawn in their own order: of more, single ones cannot be told apart."""
_SPREAD = 20
"""How many times the median of all channels the largest may be on a linear axis."""


def sqnr_plot(
    labels: Sequence[tuple[int, str]], values: Sequence[float | None], worst: Sequence[bool], top: float
) -> bytes:
    """Bars of the SQNR in dB, the first layer at the top.

    Args:
        labels: number and name of the layer of each bar.
        values: in dB; what is not finite, or not known, has no bar, and its text.
        worst: which bars stand out.
        top: the end of the axis, so that several plots can be compared.
    """
    heights = [value if value is not None and np.isfinite(value) else 0.0 for value in values]
    lowest = min([0.0, *heights])
    with _figure(0.7 + 0.25 * max(len(labels), 2)) as (figure, axes):
        places = np.arange(len(labels))
        axes.barh(places, heights, color=[BAD if is_worst else CODES for is_worst in worst], height=0.7)
        for place, height, value in zip(places, heights, values, strict=True):
            axes.text(max(height, 0.0), place, f" {decibels(value).removesuffix(' dB')}", va="center", fontsize=8)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_xlim(lowest * 1.05, top * 1.12)
        shown = [f"{drawable(shortened(name, _LABEL))}  {number}" for number, name in labels]
        axes.set_yticks(places, shown, fontsize=8, parse_math=False)
        axes.set_xlabel("SQNR of the weights in dB")
        axes.grid(axis="x", color="#dddddd")
        return _png(figure)


def histogram_plot(weight: DrawnWeight) -> bytes:
    """Float weights against what their codes stand for, counts on a log scale."""
    with _figure(3.4) as (figure, axes):
        found = weight.histogram
        if found.floats is not None:
            axes.stairs(found.floats, found.edges, fill=True, color=FLOAT, label="float")
        axes.stairs(found.decoded, found.edges, color=CODES, linewidth=1.1, label="codes")
        _log_counts(axes, max(found.decoded.max(), 0 if found.floats is None else found.floats.max()))
        axes.set_xlabel(f"value of {drawable(weight.name)}", parse_math=False)
        _legend(axes, 2)
        return _png(figure)


def channel_plot(weight: DrawnWeight, codes: Ends) -> bytes:
    """The range of each output channel on top of the range that its codes can express."""
    with _figure(3.4) as (figure, axes):
        low, high = weight.channels
        order = np.argsort(high - low, kind="stable") if len(low) > _IN_ORDER else np.arange(len(low))
        edges = np.arange(len(low) + 1) - 0.5
        axes.stairs(codes[1][order], edges, baseline=codes[0][order], fill=True, color=BAND, label="codes can express")
        rim = 1.5 if len(low) <= _IN_ORDER else 0.0  # shows a channel of equal weights
        axes.stairs(
            high[order], edges, baseline=low[order], fill=True, facecolor=CODES, edgecolor=CODES, linewidth=rim,
            label="weights",
        )  # fmt: skip
        _value_axis(axes, np.maximum(*(np.abs(end) for end in codes)), float(np.nanmax(np.abs(weight.channels))))
        axes.axhline(0, color="#666666", linewidth=0.6)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel("output channel" if len(low) <= _IN_ORDER else "output channels, from narrow to wide")
        axes.set_ylabel(drawable(weight.name), parse_math=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        _legend(axes, 2)
        return _png(figure)


def input_plot(seen: SeenInput, codes: tuple[float, float] | None) -> bytes:
    """The values of the input on the batch, on the range that their codes can express, where that is fixed."""
    with _figure(3.4) as (figure, axes):
        values = np.concatenate(seen.sample)
        values = values[np.isfinite(values)]
        counts, edges = (
            np.histogram(values, bins_for(values.size)) if values.size else (np.zeros(1), np.array([0.0, 1.0]))
        )
        if codes is not None:
            axes.axvspan(*codes, color=BAND, label="codes can express")
        axes.stairs(counts, edges, fill=True, color=CODES, label="input")
        for end in (seen.low, seen.high):
            if np.isfinite(end):
                axes.axvline(end, color=BAD, linewidth=1, linestyle="--")
        axes.plot([], [], color=BAD, linewidth=1, linestyle="--", label="its ends")
        _log_counts(axes, counts.max())
        axes.set_xlabel("value of the input")
        _legend(axes, 3)
        return _png(figure)


def drawable(text: str) -> str:
    """The text in characters that the font has: the others would be drawn as boxes, with a warning for each."""
    known = get_font(findfont(_FONT, fallback_to_default=True)).get_charmap()
    return "".join(c if ord(c) in known else c.encode("unicode_escape").decode("ascii") for c in printable(text))


@contextmanager
def _figure(height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one set of axes, ``height`` inches high."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["font.family"] = _FONT
        figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        yield figure, axes


def _value_axis(axes: Axes, reaches: "np.ndarray[Any, Any]", largest: float) -> None:
    """A value axis about zero: linear, or logarithmic to both sides where a few channels reach much further."""
    top = 1.05 * max(float(reaches.max()), largest)
    middle = float(np.median(reaches))
    if not (np.isfinite(top) and top > 0):
        return
    if middle > 0 and float(reaches.max()) > _SPREAD * middle:
        axes.set_yscale("symlog", linthresh=middle)
        powers = 10.0 ** np.arange(np.ceil(np.log10(middle)), np.floor(np.log10(top)) + 1)
        axes.set_yticks([*-powers[::-1], 0.0, *powers], [f"{p:g}" for p in [*-powers[::-1], 0.0, *powers]])
        axes.minorticks_off()
    axes.set_ylim(-top, top)


def _log_counts(axes: Axes, largest: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(0.7, max(10.0, 2.0 * float(largest)))
    axes.set_ylabel("how many")


def _legend(axes: Axes, columns: int) -> None:
    """Above the plot, on the right: on the left stands the power of ten of an axis."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=columns, frameon=False, fontsize=9, borderaxespad=0.2)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata=_NO_METADATA)
    return buffer.getvalue()


_NO_METADATA: dict[str, Any] = {"Software": None}
"""Else matplotlib writes its version."""
