"""Measure every contender on every model, each in a process of its own, and write the page.

``nox -s accuracy_peers`` measures what has no row yet. After ``--``, for instance:
``--only minilm --contender nncf --again`` measures this cell anew and keeps the other rows;
``--list`` measures nothing and prints what has no row yet; ``--page`` writes the page from the rows.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

from .contenders import asked
from .gate_targets import TARGETS
from .models import MODELS
from .page import page
from .rows import GateRow, Row, read_all, read_gates, write

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "accuracy-peers.md"
ROWS = ROOT / ".nox" / "accuracy-peers"


def cells(told: argparse.Namespace, done: set[Path]) -> Iterator[Row | GateRow]:
    """What is asked for and has not been measured, as far as can be told by now, as rows without figures."""
    for name in told.only:
        model = MODELS[name]
        wanted: list[Row | GateRow] = [
            *(Row(model=name, contender=one.name) for one in asked(model, read_all(told.rows))),
            *(GateRow(model=name, target=title) for title in TARGETS),
        ]
        for row in wanted:
            is_asked = not told.contender or _name(row) in told.contender
            is_there = row.path(told.rows) in done if told.again else row.path(told.rows).exists()
            if is_asked and not is_there:
                yield row


def measure(row: Row | GateRow, told: argparse.Namespace) -> None:
    """Have it written with its figures, or with the reason why there are none."""
    file = "gate" if isinstance(row, GateRow) else "cell"
    options = ["--threads", str(told.threads), "--rows", str(told.rows)]
    command = [sys.executable, "-m", f"{__package__}.{file}", row.model, _name(row), *options]
    output = None if told.verbose else subprocess.DEVNULL
    why = ""
    try:
        code = subprocess.run(  # noqa: S603 - our own module
            command, cwd=ROOT, stdout=output, stderr=output, timeout=told.timeout, check=False
        ).returncode
        why = f"its process ended with code {code}" if code else ""
    except subprocess.TimeoutExpired:
        why = f"not done after {told.timeout:.0f} s"
    if why:
        write(attrs.evolve(row, why_left_out=why), told.rows)


def _name(row: Row | GateRow) -> str:
    return row.target if isinstance(row, GateRow) else row.contender


def _absolute(path: str) -> Path:
    return Path(path).absolute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=tuple(MODELS), help="models")
    parser.add_argument("--contender", nargs="+", help="or targets of the gate, as the page names them")
    parser.add_argument("--again", action="store_true", help="also what has a row")
    parser.add_argument("--list", action="store_true", help="measure nothing, print what has no row")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=280.0, help="seconds after which one is given up")
    parser.add_argument("--verbose", action="store_true", help="show what contenders print")
    parser.add_argument("--rows", type=_absolute, default=ROWS)
    parser.add_argument("--output", type=Path, default=PAGE)
    told = parser.parse_args()
    if told.list:
        sys.stdout.writelines(f"{row.model}\t{_name(row)}\n" for row in cells(told, set()))
        return
    done: set[Path] = set()
    # One after the other, since which settings are measured last depends on the rows before.
    while not told.page and (row := next(cells(told, done), None)) is not None:
        sys.stderr.write(f"{row.model}: {_name(row)}\n")
        measure(row, told)
        done.add(row.path(told.rows))
    told.output.write_text(page(read_all(told.rows), read_gates(told.rows)), encoding="utf-8")
    sys.stderr.write(f"written {told.output}\n")


if __name__ == "__main__":
    main()
