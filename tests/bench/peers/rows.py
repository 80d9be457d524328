"""One measurement as a row, and rows as files: each can be measured anew by itself."""

import json
from pathlib import Path
from typing import Any

import attrs

from .setting import Setting

__all__ = ["Cell", "Figures", "Row", "read", "read_all", "write"]


@attrs.frozen(kw_only=True)
class Cell:
    """What is measured.

    Args:
        workload: its name.
        case: the shape's name in it.
        peer: its name.
        setting: threads and instructions.
    """

    workload: str
    case: str
    peer: str
    setting: Setting

    def path(self, folder: Path) -> Path:
        """Its row's file."""
        setting = f"{self.setting.isa}-{self.setting.threads}"
        return folder / setting / f"{self.workload}-{self.case.replace(' ', '-')}" / f"{self.peer}.json"


@attrs.frozen(kw_only=True)
class Figures:
    """What came out.

    Args:
        ratio: latency of float eager over the peer's, median over rounds; more is faster.
        ratio_low: lower quartile.
        ratio_high: upper quartile.
        float_ms: median of float eager in the same process.
        peer_ms: median of the peer.
        rounds: in which both took a turn.
        sqnr_db: of the output against float's, on held-back inputs; None where it is exact.
        peak_mb: most memory of the process, over what it had needed to run float; quantization is in it.
        file_mb: of what has to be shipped, MB of 2^20 bytes.
        quantize_s: seconds to export, calibrate and quantize.
        first_call_s: seconds of the first call, in which some compile.
        details: what it ran on.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    float_ms: float
    peer_ms: float
    rounds: int
    sqnr_db: float | None
    peak_mb: float
    file_mb: float
    quantize_s: float
    first_call_s: float
    details: str


@attrs.frozen(kw_only=True)
class Row:
    """A cell with its figures, or with the reason why there are none.

    Args:
        cell: what was measured.
        figures: what came out.
        why_left_out: in a line.
        cpu: in a line.
        versions: distribution → version.
    """

    cell: Cell
    figures: Figures | None = None
    why_left_out: str = ""
    cpu: str = ""
    versions: dict[str, str] = attrs.field(factory=dict)


def write(row: Row, folder: Path) -> None:
    """Over what stood there of the same cell."""
    path = row.cell.path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(attrs.asdict(row), indent=2), encoding="utf-8")


def read_all(folder: Path) -> list[Row]:
    """Every row in a folder."""
    return [read(path) for path in sorted(folder.glob("*/*/*.json"))]


def read(path: Path) -> Row:
    """One of them."""
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    cell = fields.pop("cell")
    figures = fields.pop("figures")
    return Row(
        cell=Cell(**{**cell, "setting": Setting(**cell["setting"])}),
        figures=None if figures is None else Figures(**figures),
        **fields,
    )
