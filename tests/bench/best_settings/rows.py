"""One measurement as a row, and rows as files: each can be measured anew by itself."""

import json
import re
from pathlib import Path
from typing import Any

import attrs

__all__ = ["GateRow", "Row", "best", "read_all", "read_gates", "write"]


@attrs.frozen(kw_only=True)
class Row:
    """A contender on a model: its figures, or the reason why there are none.

    Args:
        model: its name.
        contender: its name.
        figures: of the task.
        sqnr_db: of the outputs on all data of the task.
        chosen_db: of the outputs on batches that were held back, which settings are chosen by.
        seconds: to quantize, from the float module to something that can be called.
        peak_mb: most memory of the process by then, over what float had needed on the same batches.
        details: what was done.
        why_left_out: in a line.
        cpu: in a line.
        versions: distribution → version.
    """

    model: str
    contender: str
    figures: dict[str, float] = attrs.field(factory=dict)
    sqnr_db: float = 0.0
    chosen_db: float = 0.0
    seconds: float = 0.0
    peak_mb: float = 0.0
    details: str = ""
    why_left_out: str = ""
    cpu: str = ""
    versions: dict[str, str] = attrs.field(factory=dict)

    @property
    def is_measured(self) -> bool:
        """Whether there are figures."""
        return not self.why_left_out

    def path(self, folder: Path) -> Path:
        """Its file."""
        return folder / self.model / f"{_slug(self.contender)}.json"


@attrs.frozen(kw_only=True)
class GateRow:
    """A target on a model.

    Args:
        model: its name.
        target: its title.
        evaluations: models that were measured in full.
        layers: that are quantized when nothing is changed.
        first: the figure of that.
        value: the figure that was reached.
        unit: of both.
        is_met: whether it suffices.
        changed: layer → what it has instead of what was asked for.
        seconds: of the whole search.
        why_left_out: in a line.
    """

    model: str
    target: str
    evaluations: int = 0
    layers: int = 0
    first: float = 0.0
    value: float = 0.0
    unit: str = ""
    is_met: bool = False
    changed: dict[str, str] = attrs.field(factory=dict)
    seconds: float = 0.0
    why_left_out: str = ""

    def path(self, folder: Path) -> Path:
        """Its file."""
        return folder / self.model / "gate" / f"{_slug(self.target)}.json"


def best(rows: list[Row]) -> Row:
    """The one whose outputs are nearest to float on what was held back, which whoever quantizes can measure."""
    return max(rows, key=lambda row: row.chosen_db)


def write(row: Row | GateRow, folder: Path) -> None:
    """Over what stood there of the same."""
    path = row.path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(attrs.asdict(row), indent=2), encoding="utf-8")


def read_all(folder: Path) -> list[Row]:
    """Every contender's."""
    return [Row(**_fields(path)) for path in sorted(folder.glob("*/*.json"))]


def read_gates(folder: Path) -> list[GateRow]:
    """Every target's."""
    return [GateRow(**_fields(path)) for path in sorted(folder.glob("*/gate/*.json"))]


def _fields(path: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return fields


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
