"""The page: all files of a report by name. Every text of the model goes through `escape`."""

import math
from collections.abc import Iterator
from importlib.resources import files

from mono_quant_report.charts import channel_plot, histogram_plot, input_plot, sqnr_plot
from mono_quant_report.contents import Contents, Drawn, Row
from mono_quant_report.text import decibels, escape, megabytes, name_of

__all__ = ["PAGE", "make_files"]

PAGE = "index.html"
_BARS = 40
"""Layers in one chart."""


def make_files(contents: Contents, title: str) -> dict[str, bytes]:
    """The page and its images, by names that owe nothing to the model."""
    images: dict[str, bytes] = {}
    body = [
        f"<h1>{escape(title)}</h1>",
        *_summary(contents),
        *_notes(contents.notes),
        *_charts(contents, images),
        *_worst(contents, images),
        *_quantized(contents),
        *_others(contents),
    ]
    style = files("mono_quant_report").joinpath("style.css").read_text(encoding="utf-8")
    head = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
    ]
    return {PAGE: "\n".join([*head, *body, "</body>", "</html>", ""]).encode(), **images}


def _summary(contents: Contents) -> Iterator[str]:
    known = [row for row in contents.rows if row.sqnr is not None and not math.isnan(row.sqnr)]
    lowest = min(known, key=lambda row: row.sqnr or 0.0, default=None)
    ratio = f"{contents.before / contents.after:.2f} times smaller" if contents.after else "–"
    facts = {
        "layers quantized": str(len(contents.rows)),
        "other layers": str(len(contents.others)),
        "float model": megabytes(contents.before),
        "quantized model": megabytes(contents.after),
        "size": ratio,
    }
    if lowest is not None:
        facts["lowest SQNR"] = f"{decibels(lowest.sqnr)}, {name_of(lowest.name)}"
    yield "<dl>"
    for term, fact in facts.items():
        yield f"<div><dt>{term}</dt><dd>{escape(fact)}</dd></div>"
    yield "</dl>"


def _notes(notes: list[str]) -> Iterator[str]:
    if notes:
        yield '<ul class="notes">'
        for note in notes:
            yield f"<li>{escape(note)}</li>"
        yield "</ul>"


def _charts(contents: Contents, images: dict[str, bytes]) -> Iterator[str]:
    if not any(row.sqnr is not None for row in contents.rows):
        return
    yield "<h2>SQNR by layer</h2>"
    yield "<p>How much stronger the float weights are than what their codes lost: 6 dB more is half the error. "
    yield "The layers that are drawn below are red.</p>"
    worst = {drawn.number for drawn in contents.drawn}
    finite = [row.sqnr for row in contents.rows if row.sqnr is not None and math.isfinite(row.sqnr)]
    numbered = list(enumerate(contents.rows, 1))
    for start in range(0, len(numbered), _BARS):
        part = numbered[start : start + _BARS]
        png = sqnr_plot(
            [(number, name_of(row.name)) for number, row in part],
            [row.sqnr for _, row in part],
            [number in worst for number, _ in part],
            max([10.0, *finite]),
        )
        what = f"SQNR of layers {part[0][0]} to {part[-1][0]}"
        yield _figure(images, f"sqnr-{start // _BARS + 1}.png", png, what, "all")


def _worst(contents: Contents, images: dict[str, bytes]) -> Iterator[str]:
    if contents.drawn:
        yield f"<h2>The {len(contents.drawn)} layers with the lowest SQNR</h2>"
    for drawn in contents.drawn:
        yield from _layer(drawn, images)


def _layer(drawn: Drawn, images: dict[str, bytes]) -> Iterator[str]:
    row = drawn.row
    yield f"<h3>{escape(name_of(row.name))} (number {drawn.number}): {decibels(row.sqnr)}</h3>"
    yield f"<p>{escape(row.kind)}; {escape(row.how)}</p>"
    yield from _notes(drawn.notes)
    yield '<div class="plots">'
    for place, weight in enumerate(drawn.weights, 1):
        file = f"layer-{drawn.number}-weight-{place}"
        what = f"{weight.name} and what its codes stand for"
        yield _figure(images, f"{file}-histogram.png", histogram_plot(weight), what, row.name)
        if weight.codes is not None:
            what = f"Range of each output channel of {weight.name}"
            yield _figure(images, f"{file}-channels.png", channel_plot(weight, weight.codes), what, row.name)
    if drawn.seen is not None:
        seen = drawn.seen
        what = f"Input on the batch: {seen.count:,} values from {seen.low:.4g} to {seen.high:.4g}; {_coded(drawn)}"
        yield _figure(images, f"layer-{drawn.number}-input.png", input_plot(seen, drawn.input_codes), what, row.name)
    yield "</div>"


def _coded(drawn: Drawn) -> str:
    if drawn.input_codes is None:
        return "the input stays float" if drawn.input_kind == "stays float" else f"codes: {drawn.input_kind}"
    low, high = drawn.input_codes
    return f"codes from {low:.4g} to {high:.4g}"


def _figure(images: dict[str, bytes], name: str, png: bytes, what: str, layer: str) -> str:
    images[name] = png
    text, alt = escape(what), escape(f"{name_of(layer)}: {what}")
    return (
        f'<figure><a href="{name}"><img src="{name}" alt="{alt}" loading="lazy"></a>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _quantized(contents: Contents) -> Iterator[str]:
    worst = {drawn.number for drawn in contents.drawn}
    yield "<h2>Quantized layers</h2>"
    rows = [(number in worst, _cells(number, row)) for number, row in enumerate(contents.rows, 1)]
    yield from _table(["#", "layer", "type", "how", "float bytes", "bytes", "SQNR"], rows)


def _cells(number: int, row: Row) -> list[str]:
    before = "–" if row.before is None else f"{row.before:,}"
    return [str(number), name_of(row.name), row.kind, row.how, before, f"{row.after:,}", decibels(row.sqnr)]


def _others(contents: Contents) -> Iterator[str]:
    if not contents.others:
        return
    yield "<h2>Other layers</h2>"
    rows = [(False, [name_of(name), kind, why, f"{size:,}"]) for name, kind, size, why in contents.others]
    yield from _table(["layer", "type", "why not quantized", "float bytes"], rows)


def _table(headings: list[str], rows: list[tuple[bool, list[str]]]) -> Iterator[str]:
    kinds = [_CLASSES.get(heading, "") for heading in headings]
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th{kind}>{heading}</th>" for heading, kind in zip(headings, kinds, strict=True))
    yield "</tr></thead><tbody>"
    for is_worst, cells in rows:
        shown = "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(cells, kinds, strict=True))
        mark = ' class="worst"' if is_worst else ""
        yield f"<tr{mark}>{shown}</tr>"
    yield "</tbody></table></div>"


_CLASSES = {
    "#": ' class="number"', "layer": ' class="name"', "how": ' class="how"', "why not quantized": ' class="how"',
    "float bytes": ' class="number"', "bytes": ' class="number"', "SQNR": ' class="number"',
}  # fmt: skip
