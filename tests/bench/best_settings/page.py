"""The rows as a page: a summary, the gate, then a table for each model."""

from collections import Counter
from collections.abc import Iterator

from ..tables import table, versions_text
from .contenders import asked
from .gate_targets import TARGETS
from .models import MODELS, Model
from .rows import GateRow, Row, best

__all__ = ["page"]

_INTRODUCTION = """\
# Accuracy beside others

Static int8 of real pretrained models: by every observer and algorithm of mono_quant, and by NNCF, torchao's PT2E and
ONNX Runtime, in the settings that they have and in better ones. Written by `nox -s accuracy_peers`; `nox -s
accuracy_peers -- --help` says how to measure a part of it.

- Every contender gets the same float model and the same calibration batches, and answers the same questions.
- *SQNR* is that of all outputs that the task asks for, none of them calibrated on. For Silero float is given the state
  that the contender has, so that it is the noise of a step.
- *Held back* is the SQNR on every fourth of the batches that there are to calibrate with; nobody is given these. It is
  what whoever quantizes can measure, and by it **the best setting is chosen, ours and theirs**. More settings of ours
  were tried than of any other; each table has them all, and names below it what has not been measured.
- *Seconds* are from the float module to something that can be called, export included. *Memory* is the most that the
  process had resident by then, over what float had needed for the same batches, in MB of 2^20 bytes. Two threads.
- Ours is run by oneDNN's integer kernels, NNCF's by OpenVINO with `f32` for what is not quantized, PT2E's as the
  exported graph that Inductor would compile, ONNX Runtime's by itself. Ours has `bn-fold` in every line. Our weights
  keep away from what a CPU without VNNI would clip, unless the line says `full-range`; those of PT2E and
  ONNX Runtime do not, as they were run here.
- `nncf mixed, accurate bias`: `preset=MIXED`, `fast_bias_correction=False`, and `model_type=TRANSFORMER` for a
  transformer. `onnxruntime` has the function's defaults; `per-channel` also has uint8 activations.
- Each decides by itself what it quantizes, and that differs.
- The tasks are small: 120 views of 24 photos, 50 documents and 353 pairs of words, 256 tones. A view is 0.8 points."""
_BY_THE_GATE_ALONE = "Quantized by the gate alone, above; by each scheme in [Accuracy](accuracy.md)."


def page(rows: list[Row], gates: list[GateRow]) -> str:
    """Markdown."""
    return "\n".join(_lines(rows, gates)) + "\n"


def _lines(rows: list[Row], gates: list[GateRow]) -> Iterator[str]:
    yield _INTRODUCTION
    cpus = dict.fromkeys(row.cpu for row in rows if row.cpu)
    yield from ("", f"Machine: {'; '.join(cpus) or 'none'}. Versions: {versions_text(row.versions for row in rows)}.")
    yield from ("", "## Summary", "", *_summary(rows))
    yield from ("", "## Reaching a target", "", *_gate(gates))
    for name, model in MODELS.items():
        of_model = [row for row in rows if row.model == name]
        yield from ("", f"## {model.title}", "", *(_table(of_model) if model.has_contenders else [_BY_THE_GATE_ALONE]))
        names = {row.contender for row in of_model}
        missing = [f"`{one.name}`" for one in asked(model, rows) if one.name not in names]
        titles = {row.target for row in gates if row.model == name}
        missing += [f"the target `{title}`" for title in TARGETS if title not in titles]
        if missing:
            yield from ("", f"Not measured yet: {', '.join(missing)}.")


def _summary(rows: list[Row]) -> Iterator[str]:
    lines = []
    for name, model in MODELS.items():
        measured = [row for row in rows if row.model == name and row.is_measured]
        sides = _sides(measured)
        if len(sides) == 2:
            most = (min if model.is_better_lower else max)(row.figures[model.figure] for row in sides[1])
            lines.append((model.title.partition(":")[0], *_compared(model, *map(best, sides)), f"{most:.4g}"))
    head = (
        "model",
        "best of ours",
        "best of theirs",
        "ours less theirs",
        "figure",
        "ahead",
        "best figure of any of theirs",
    )
    yield from table(head, lines)


def _compared(model: Model, ours: Row, theirs: Row) -> tuple[str, ...]:
    db = ours.sqnr_db - theirs.sqnr_db
    first, second = (one.figures[model.figure] for one in (ours, theirs))
    better = (second - first if model.is_better_lower else first - second) > 0
    ahead = "ours" if db > 0 else "theirs"
    by_task = "same" if first == second else ("ours" if better else "theirs")
    return (
        _named(ours),
        _named(theirs),
        f"**{db:+.1f} dB**",
        f"`{model.figure}` {first:.4g} and {second:.4g}",
        f"{ahead} by SQNR, {by_task} by the task" if by_task != ahead else ahead,
    )


def _named(row: Row) -> str:
    return f"`{row.contender.removeprefix('ours / ')}` ({row.sqnr_db:.1f} dB)"


def _gate(gates: list[GateRow]) -> Iterator[str]:
    yield from (
        "From plain `int8-static`, with at most 25 evaluations, see [how to](../how-to/reach-a-target.md). `MinSQNR`",
        "is measured on four calibration batches, `MaxDrop` by the task's figure on all of its data.",
        "",
    )
    lines = []
    for name, model in MODELS.items():
        for row in (one for one in gates if one.model == name):
            title = f"MaxDrop({model.figure}, {model.drop:g})" if row.target == "MaxDrop" else row.target
            lines.append((model.title.partition(":")[0], f"`{title}`", *_reached(row)))
    head = ("model", "target", "as asked for", "reached", "evaluations", "layers", "given", "kept in float", "seconds")
    yield from table(head, lines)


def _reached(row: GateRow) -> tuple[str, ...]:
    if not row.evaluations:
        return ("", f"`{row.why_left_out}`", "", "", "", "", "")
    ways = Counter(row.changed.values())
    floats = [layer for layer, way in row.changed.items() if way == "float"]
    del ways["float"]
    return (
        f"{row.first:.4g}{row.unit}",
        f"{row.value:.4g}{row.unit}{'' if row.is_met else ', **not met**'}",
        str(row.evaluations),
        str(row.layers),
        ", ".join(f"{count} `{way}`" for way, count in ways.items()) or "none",
        f"{len(floats)}: {', '.join(f'`{layer}`' for layer in floats)}" if floats else "none",
        f"{row.seconds:.0f}",
    )


def _table(rows: list[Row]) -> Iterator[str]:
    measured = sorted((row for row in rows if row.is_measured), key=lambda row: -row.sqnr_db)
    if measured:
        names = tuple(measured[0].figures)
        chosen = {best(group).contender for group in _sides(measured)}
        head = ("contender", *(f"`{name}`" for name in names), "SQNR dB", "held back", "seconds", "memory", "what")
        yield from table(head, [_line(row, names, is_chosen=row.contender in chosen) for row in measured])
    without = [row for row in rows if not row.is_measured]
    if without:
        yield from ("", "Left out:", "")
        yield from (f"- `{row.contender}`: `{row.why_left_out.replace('`', '')}`" for row in without)


def _sides(rows: list[Row]) -> list[list[Row]]:
    """Ours and theirs, where there are any."""
    ours, theirs = [row for row in rows if _is_ours(row)], [row for row in rows if not _is_ours(row)]
    return [side for side in (ours, theirs) if side]


def _line(row: Row, figures: tuple[str, ...], *, is_chosen: bool) -> tuple[str, ...]:
    name = f"`{row.contender}`"
    return (
        f"**{name}**" if is_chosen else name,
        *(f"{row.figures[figure]:.4g}" for figure in figures),
        f"{row.sqnr_db:.1f}",
        f"{row.chosen_db:.1f}",
        f"{row.seconds:.1f}",
        f"{row.peak_mb:+.0f}",
        row.details,
    )


def _is_ours(row: Row) -> bool:
    return row.contender.startswith("ours / ")
