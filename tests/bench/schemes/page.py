"""The findings as a page of tables."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from .arithmetic import Error
from .combination import Finding
from .storage import PARTS

__all__ = ["Options", "Row", "Table", "page"]

_INTRO = """\
# Schemes and layers

Written by `nox -s schemes`, which quantizes each layer with each scheme, saves, loads and runs it. The test
`tests/test_schemes_page.py` makes the same checks. Nothing is timed, weights and inputs are fixed numbers, one thread
computes. Here: mono_quant {mono_quant}, torch {torch} with kernels for {capability}, VNNI {vnni}.

**Sizes** are in bytes. *Theory* is arithmetic on the shapes of a layer alone (`tests/bench/schemes/storage.py`), as
[the file format](file-format.md) says it: codes, each channel filled up to whole bytes; float32 scales; int8 zero
points; of `int8-static` also scale and zero point of the input, float32 and int32; *other* is what stays as it was:
biases, norms. The *header* is 8 bytes of length and JSON: names, types, shapes and places of the tensors, and the
manifest, in which the versions of mono_quant and torch stand. *File* is the size of the `.safetensors` file. Not only
the sizes but the header, types, shapes, places and what stays as it was are compared with theory, byte by byte. The
`.pt` file has the same tensors, bit for bit. *Tensors / float32* leaves out the header, which is as large for a large
layer.

**Kernels**: how far each kernel that runs the layer is from the [exact reference](../explanation/numerics.md), on what
the layer asks it to compute: the largest difference, rounded up to whole steps of the kernel's float type at the
largest output. A step is 2^-23 of that, for `bfloat16-linear`, `int8pack` and `int4pack`, which compute in bfloat16,
2^-7. 0 is equality in every bit. Where no input is quantized, the layer with `reference`, or with what runs where there
is no choice (`dequantize`, `gather`), is compared with torch's layer in float64, whose weights are decoded from the
bytes of the file by `tests/bench/schemes/stored_file.py`. The loaded layer stands for the same weights, bit for bit.

**Loaded**: whether the layers that `Quantizer.load` makes of the `.safetensors` and of the `.pt` file give the bits of
the layer before saving, with each kernel.
"""
_HEAD = ("layer", "float32", *PARTS, "header", "theory", "file", "tensors / float32", "kernels", "loaded")


@attrs.frozen
class Row:
    """A layer, and what was found of it.

    Args:
        title: of the layer.
        finding: None where the scheme does not take it.
        reason: why not.
        is_refused: whether the scheme raises for it instead of keeping it in float.
        inside: parts of it that stay in float, with their reasons.
        wrong: every claim about it that does not hold.
    """

    title: str
    finding: Finding | None = None
    reason: str = ""
    is_refused: bool = False
    inside: Mapping[str, str] = attrs.field(factory=dict)
    wrong: tuple[str, ...] = ()


@attrs.frozen
class Table:
    """One scheme on every layer; ``note`` stands above."""

    title: str
    rows: Sequence[Row]
    note: str = ""


@attrs.frozen
class Options:
    """A scheme with each of its options, by their titles, on every layer."""

    title: str
    tables: Sequence[Table]


def page(machine: Mapping[str, str], tables: Iterable[Table], options: Iterable[Options]) -> str:
    """Markdown."""
    lines = [_INTRO.format(**machine)]
    for table in tables:
        lines += [f"## {table.title}", "", *_table(table), ""]
    for scheme in options:
        lines += [f"## Options of {scheme.title}", "", "Bytes of the file; they are those of theory.", ""]
        lines += [*_options(scheme), ""]
    return "\n".join(lines)


def _table(table: Table) -> Iterator[str]:
    if table.note:
        yield from (table.note, "")
    yield from _markdown(_HEAD, map(_cells, table.rows))
    yield from _kept_inside(table.rows)
    yield from _wrong(table.rows)


def _cells(row: Row) -> tuple[str, ...]:
    finding = row.finding
    if finding is None:
        why = f"{'error' if row.is_refused else 'float'}: {row.reason}"
        return (row.title, *[""] * (len(_HEAD) - 3), why, "")
    sizes = (finding.float_bytes, *finding.parts.values(), finding.header, finding.theory, finding.size)
    ratio = sum(finding.parts.values()) / finding.float_bytes
    return (row.title, *map(_number, sizes), f"{ratio:.3f}", _errors([finding]), _loaded([finding]))


def _options(scheme: Options) -> Iterator[str]:
    rows = []
    for of_a_layer in zip(*(table.rows for table in scheme.tables), strict=True):
        findings = [row.finding for row in of_a_layer if row.finding is not None]
        if findings:
            rows.append((of_a_layer[0].title, *map(_size, of_a_layer), _errors(findings), _loaded(findings)))
    yield from _markdown(("layer", *(table.title for table in scheme.tables), "kernels", "loaded"), rows)
    of_all = [row for table in scheme.tables for row in table.rows]
    refused = next((row.reason for row in of_all if row.is_refused), None)
    if refused is not None:
        yield from ("", f"*error*, in the first of them: {refused}.")
    yield from _wrong(of_all)


def _size(row: Row) -> str:
    if row.finding is None:
        return "error" if row.is_refused else "float"
    size, theory = row.finding.size, row.finding.theory
    return _number(size) if size == theory else f"**{_number(size)}, not {_number(theory)}**"


def _errors(findings: Iterable[Finding]) -> str:
    """The largest of each kernel."""
    worst: dict[str, Error] = {}
    for finding in findings:
        for name, error in finding.errors.items():
            worst[name] = max(error, worst.get(name, error), key=lambda error: error.steps)
    return ", ".join(f"{name} {_steps(error)}" for name, error in sorted(worst.items()))


def _steps(error: Error) -> str:
    text = str(math.ceil(error.steps)) if math.isfinite(error.steps) else str(error.steps)
    return text if error.steps <= error.limit else f"**{text}**"


def _loaded(findings: Iterable[Finding]) -> str:
    return "**other bits**" if any(finding.changed for finding in findings) else "same bits"


def _kept_inside(rows: Sequence[Row]) -> Iterator[str]:
    """What stays in float inside of layers."""
    inside: dict[str, list[str]] = {}
    for row in rows:
        for name, reason in row.inside.items():
            inside.setdefault(reason, []).append(f"`{name}` of {row.title}")
    if inside:
        kept = (f"{', '.join(names)} ({reason})" for reason, names in inside.items())
        yield from ("", f"Inside of layers, these stay in float: {'; '.join(kept)}.")


def _wrong(rows: Sequence[Row]) -> Iterator[str]:
    """Every claim that does not hold."""
    wrong = [f"- **{row.title}: {what}**" for row in rows for what in row.wrong]
    if wrong:
        yield from ("", "These claims do not hold:", "", *wrong)


def _number(count: int) -> str:
    return f"{count:,}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
