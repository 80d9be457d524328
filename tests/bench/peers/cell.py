"""Measure one peer on one workload, beside float eager in the same process; the driver starts it.

``python -m tests.bench.peers.cell WORKLOAD CASE PEER --threads 2 --isa full --budget 15 --rows FOLDER``.
"""

import argparse
import re
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from mono_quant.core.sqnr import sum_sqnr_db

from .machine import cpu, forget_peak, peak_mb, versions
from .rows import Cell, Figures, Row, write
from .runners import Built, peer_for
from .setting import Setting
from .timing import in_turn
from .workloads import WORKLOADS

__all__ = ["in_a_line", "measure"]

_LONGEST_REASON = 200
_EXACT_DB = 300.0


def measure(cell: Cell, *, budget_s: float) -> Figures:
    """Everything about a cell."""
    workload, peer = WORKLOADS[cell.workload], peer_for(cell.peer, cell.workload)
    model, calibration = workload.load(), workload.calibration(cell.case)
    held_back = workload.held_back(cell.case)
    example = held_back[0]
    forget_peak()
    with torch.inference_mode():
        floats = [model(*inputs) for inputs in held_back]
    float_mb = peak_mb()
    peer.load()

    start = time.perf_counter()
    with torch.no_grad():
        built = peer.build(model, calibration, cell.setting)
    quantized = time.perf_counter()
    with torch.inference_mode():
        built.call(example)
        called = time.perf_counter()
        outputs = [built.call(inputs).clone() for inputs in held_back]
        turns = in_turn(lambda: model(*example), lambda: built.call(example), budget_s=budget_s)
    peak = peak_mb() - float_mb
    low, ratio, high = turns.ratios
    sqnr = sum_sqnr_db(zip(floats, outputs, strict=True))
    return Figures(
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        float_ms=median(turns.first),
        peer_ms=median(turns.second),
        rounds=len(turns.first),
        sqnr_db=None if sqnr >= _EXACT_DB else sqnr,
        peak_mb=peak,
        file_mb=_file_mb(built),
        quantize_s=quantized - start,
        first_call_s=called - quantized,
        details=built.details(),
    )


def in_a_line(error: BaseException) -> str:
    r"""An error without its further lines, and without the folders of this machine.

    >>> in_a_line(OSError("no /home/someone/models/a.onnx\nat line 1"))
    'OSError: no a.onnx'
    """
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    line = re.sub(r"(?:/[\w.+-]+)+/", "", f"{type(error).__name__}: {text}")
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} …"


def _file_mb(built: Built) -> float:
    with tempfile.TemporaryDirectory() as folder:
        built.save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 2**20


def main() -> None:
    """Write the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("workload", "case", "peer"):
        parser.add_argument(name)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--isa", required=True)
    parser.add_argument("--budget", type=float, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    setting = Setting(told.threads, told.isa)
    cell = Cell(workload=told.workload, case=told.case, peer=told.peer, setting=setting)
    figures, why = None, ""
    try:
        figures = measure(cell, budget_s=told.budget)
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is why it is left out
        why = in_a_line(error)
    row = Row(cell=cell, figures=figures, why_left_out=why, cpu=cpu(), versions=versions())
    write(row, told.rows)


if __name__ == "__main__":
    main()
