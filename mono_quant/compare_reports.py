"""Two reports beside each other: what got better or worse, by how much, and what was chosen otherwise."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import attrs

from mono_quant.errors import ArtifactError
from mono_quant.report_file import ReportFile, read_report

__all__ = ["Change", "LayerChange", "ReportComparison", "compare_reports"]

_JSON, _INDEX = ".json", ".safetensors.index.json"


@attrs.frozen
class Change:
    """One figure in two reports.

    Args:
        first: in the first; None when it is not known.
        second: in the second.
        difference: the second less the first; None where either is not known, or the difference is no number.
    """

    first: float | None
    second: float | None
    difference: float | None

    @classmethod
    def of(cls, first: float | None, second: float | None) -> Self:
        """The change from one to the other; 0 for two equal infinities."""
        if first is None or second is None:
            return cls(first, second, None)
        difference = 0.0 if first == second else second - first
        return cls(first, second, None if math.isnan(difference) else difference)


@attrs.frozen(kw_only=True)
class LayerChange:
    """One layer in two reports.

    Args:
        name: of the layer.
        only_in: ``"first"`` or ``"second"``, where the other one has not quantized it; else empty.
        figures: name of the figure → what it was and is.
        choices: what was chosen otherwise: ``"scheme"``, ``"observer"`` → the first's and the second's, as text.
    """

    name: str
    only_in: str
    figures: dict[str, Change]
    choices: dict[str, tuple[str, str]]


@attrs.frozen(kw_only=True)
class ReportComparison:
    """Two reports.

    Args:
        totals: figure of the whole run → what it was and is.
        layers: in the order of the first, then what only the second has quantized.
    """

    totals: dict[str, Change]
    layers: tuple[LayerChange, ...]


def compare_reports(first: str | Path, second: str | Path) -> ReportComparison | None:
    """Compare two reports; None when neither file is one.

    Args:
        first: what the second is measured against.
        second: the other one.

    Raises:
        ArtifactError: when a file cannot be read, is damaged, or only one of them is a report.
    """
    one, other = read_report(first), read_report(second)
    if one is None and other is None:
        if Path(first).name.endswith(_JSON) and not Path(first).name.endswith(_INDEX):
            raise ArtifactError(f"{first} is no report that monoquant quantize --report wrote, and no file of tensors")
        return None
    if one is None or other is None:
        report, another = (first, second) if other is None else (second, first)
        raise ArtifactError(
            f"{report} is a report and {another} is not: give two reports, as monoquant quantize --report writes them, "
            "or two files of tensors"
        )
    return ReportComparison(
        totals=_changes(one.totals, other.totals),
        layers=tuple(_layer(name, one, other) for name in dict.fromkeys([*one.figures, *other.figures])),
    )


def _layer(name: str, one: ReportFile, other: ReportFile) -> LayerChange:
    before, after = one.choices.get(name), other.choices.get(name)
    only_in = "second" if before is None else "first" if after is None else ""
    return LayerChange(
        name=name,
        only_in=only_in,
        figures=_changes(one.figures.get(name, {}), other.figures.get(name, {})),
        choices={key: (before[key], after[key]) for key in before if before[key] != after[key]}
        if before is not None and after is not None
        else {},
    )


def _changes(first: Mapping[str, float | None], second: Mapping[str, float | None]) -> dict[str, Change]:
    return {name: Change.of(first.get(name), second.get(name)) for name in dict.fromkeys([*first, *second])}
