"""Measure every peer on every workload, each in a process of its own, and write the page.

``nox -s bench_peers`` measures all with two threads. After ``--``, for instance:
``--only resnet18 --case "batch 1" --peer onnxruntime-static`` measures this cell anew and keeps the other rows;
``--threads 2 1 --isa full avx2`` measures in four settings; ``--new`` measures only cells that have no row yet;
``--page`` measures nothing and writes the page from the rows.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from .page import page
from .rows import Cell, Row, read_all, write
from .runners import PEERS, peer_for, peers_of
from .setting import AVX2, FULL, Setting
from .workloads import WORKLOADS

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "peers.md"
ROWS = ROOT / ".nox" / "peers"


def cells(told: argparse.Namespace) -> Iterator[Cell]:
    """What is asked for, workload after workload."""
    for isa, threads, workload in product(told.isa, told.threads, told.only):
        for case, peer in product(WORKLOADS[workload].cases, peers_of(workload)):
            if peer.name in told.peer and case in (told.case or (case,)):
                yield Cell(workload=workload, case=case, peer=peer.name, setting=Setting(threads, isa))


def measure(cell: Cell, told: argparse.Namespace) -> None:
    """Have a row written, whatever becomes of the process that measures."""
    why = peer_for(cell.peer, cell.workload).why_not(cell.setting)
    if not why:
        with tempfile.TemporaryDirectory() as scratch:
            why = _run(cell, told, scratch)
    if why:
        write(Row(cell=cell, why_left_out=why), told.rows)


def _run(cell: Cell, told: argparse.Namespace, scratch: str) -> str:
    """Why the process that measures a cell wrote no row, or nothing."""
    options = [
        *("--threads", str(cell.setting.threads), "--isa", cell.setting.isa),
        *("--budget", str(told.budget), "--rows", str(told.rows)),
    ]
    command = [sys.executable, "-m", f"{__package__}.cell", cell.workload, cell.case, cell.peer, *options]
    # What is compiled is compiled anew: the time of the first call is a figure, and no setting meets another's code.
    environment = {
        **os.environ, **cell.setting.environment, "TMPDIR": scratch, "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/inductor",
    }  # fmt: skip
    output = None if told.verbose else subprocess.DEVNULL
    process = subprocess.Popen(  # noqa: S603 - our own module
        command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
    )
    try:
        code = process.wait(timeout=told.timeout)
    except subprocess.TimeoutExpired:
        return f"not done after {told.timeout:.0f} s"
    finally:
        _end(process)
    return f"its process ended with {_named(code)}" if code else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it started: compilers and their pools."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def _named(code: int) -> str:
    return f"code {code}" if code > 0 else signal.Signals(-code).name


def _absolute(path: str) -> Path:
    return Path(path).absolute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = tuple(dict.fromkeys(peer.name for peer in PEERS))
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=tuple(WORKLOADS), help="workloads")
    parser.add_argument("--peer", nargs="+", choices=names, default=names, help="peers")
    parser.add_argument("--case", nargs="+", help='as the page names them, for instance "batch 1"')
    parser.add_argument("--threads", nargs="+", type=int, default=(2,))
    parser.add_argument("--isa", nargs="+", choices=(FULL, AVX2), default=(FULL,))
    parser.add_argument("--budget", type=float, default=15.0, help="seconds of timing for a cell")
    parser.add_argument("--timeout", type=float, default=420.0, help="seconds after which a cell is given up")
    parser.add_argument("--new", action="store_true", help="keep the rows that there are")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--verbose", action="store_true", help="show what the peers print")
    parser.add_argument("--rows", type=_absolute, default=ROWS)
    parser.add_argument("--output", type=Path, default=PAGE)
    told = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of `finally`, which ends what is being measured
    for cell in () if told.page else cells(told):
        if told.new and cell.path(told.rows).exists():
            continue
        sys.stderr.write(f"{cell.workload}, {cell.case}, {cell.setting.title}: {cell.peer}\n")
        measure(cell, told)
    told.output.write_text(page(read_all(told.rows)), encoding="utf-8")
    sys.stderr.write(f"written {told.output}\n")


if __name__ == "__main__":
    main()
