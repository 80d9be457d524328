"""The rows as a page: for each setting a summary, then a table for each shape of each workload."""

from collections.abc import Iterator
from statistics import median

from ..tables import table, versions_text
from .rows import Figures, Row
from .runners import peers_of
from .setting import AVX2, FULL, Setting
from .workloads import WORKLOADS, Workload

__all__ = ["by_speed", "left_out", "page"]

_INTRODUCTION = """\
# Peers

How fast models run as quantized by mono_quant and by others, on one machine. Written by `nox -s bench_peers`, which
anyone can run again; `nox -s bench_peers -- --help` says how to measure a part of it.

- *Ratio* is the latency of float32 eager over that of the peer: **higher is faster**. Both take turns in one process,
  a process for each line; medians, with the quartiles of the ratio over the rounds. The line `float-eager` is float
  against itself: what differs by as little as its quartiles do differs by nothing.
- *SQNR* is that of the output, on four inputs that were not calibrated on. With random weights it ranks peers, and
  predicts no accuracy.
- *Memory* is the most that the process had resident, over what it had needed to run float; the library itself and
  quantization are in it. *File* is what has to be shipped. Both are in MB of 2^20 bytes.
- *Quantize* takes in export and calibration with 32 samples, or four batches. The *first call* compiles, for some.
- `ours-…` is eager; `ours-…-compile` and `float-compile` are under `torch.compile`; `ours-…-onnxruntime` and
  `ours-…-openvino` are our [runtimes](../how-to/run-faster.md), with the same codes and scales. Every peer gets inputs
  of one shape, and may fix it. OpenVINO computes in bfloat16 what is not quantized, where the CPU has it.
- MiniLM is quantized with `smoothquant` and `bias-correction` in `ours-int8-…`; NNCF, behind `openvino-int8`, is told
  that it is a transformer, and does both by itself."""

_LIMITED = """\
torch's kernels, and the code that its Inductor writes, limited to AVX2 without VNNI by `ONEDNN_MAX_CPU_ISA=AVX2`,
`FBGEMM_ENABLE_INSTRUCTIONS=AVX2` and `ATEN_CPU_CAPABILITY=avx2`. MKL, which multiplies the matrices of float eager's
Linear layers, does not read them. ONNX Runtime has no such switch and is left out. Of OpenVINO only oneDNN obeys the
first one: its lines are limited in part. Its other kernels still see the whole CPU, and its int8 matrix products may
lose an accuracy in this mix that they keep on a CPU with AVX2 alone."""


def page(rows: list[Row]) -> str:
    """Markdown."""
    return "\n".join(_lines(rows)) + "\n"


def by_speed(rows: list[Row]) -> list[tuple[str, Figures]]:
    """Peers that have figures, the fastest first."""
    measured = [(row.cell.peer, row.figures) for row in rows if row.figures is not None]
    return sorted(measured, key=lambda item: -item[1].ratio)


def left_out(workload: str, rows: list[Row]) -> dict[str, str]:
    """Peers without figures → why, those without a row too."""
    found = {row.cell.peer: row for row in rows}
    without = {peer.name: found.get(peer.name) for peer in peers_of(workload)}
    return {
        name: row.why_left_out if row else "not measured"
        for name, row in without.items()
        if row is None or row.figures is None
    }


def _lines(rows: list[Row]) -> Iterator[str]:
    yield _INTRODUCTION
    cpus = dict.fromkeys(row.cpu for row in rows if row.cpu)
    yield from ("", f"Machine: {'; '.join(cpus) or 'none'}. Versions: {versions_text(row.versions for row in rows)}.")
    for setting in sorted({row.cell.setting for row in rows}, key=_order):
        of_setting = [row for row in rows if row.cell.setting == setting]
        yield from ("", f"## {setting.title[0].upper()}{setting.title[1:]}", "")
        if setting.is_limited:
            yield from (_LIMITED, "")
        yield from _summary(of_setting)
        for workload, case, chosen in _cases(of_setting):
            yield from ("", f"### {workload.title}, {case}", "")
            yield from _case(workload, chosen)


def _order(setting: Setting) -> tuple[int, int]:
    return (FULL, AVX2).index(setting.isa), -setting.threads


def _cases(rows: list[Row]) -> Iterator[tuple[Workload, str, list[Row]]]:
    """Those of which there is a row."""
    for workload in WORKLOADS.values():
        for case in workload.cases:
            chosen = [row for row in rows if (row.cell.workload, row.cell.case) == (workload.name, case)]
            if chosen:
                yield workload, case, chosen


def _summary(rows: list[Row]) -> Iterator[str]:
    lines = []
    for workload, case, chosen in _cases(rows):
        ranked = [item for item in by_speed(chosen) if item[0] != "float-eager"]
        ours = next((item for item in ranked if item[0].startswith("ours-")), None)
        others = next((item for item in ranked if not item[0].startswith("ours-")), None)
        lines.append((f"{workload.name}, {case}", _float_ms(chosen), _best(ours), _best(others)))
    yield from table(("workload", "float eager ms", "fastest of ours", "fastest of the others"), lines)


def _case(workload: Workload, rows: list[Row]) -> Iterator[str]:
    yield from table(
        ("peer", "ratio", "quartiles", "ms", "SQNR dB", "memory", "file", "quantize s", "first call s", "ran on"),
        [
            (
                f"`{name}`",
                f"**{one.ratio:.2f}**",
                f"{one.ratio_low:.2f} to {one.ratio_high:.2f}",
                f"{one.peer_ms:.2f}",
                _db(one),
                f"{one.peak_mb:+.0f}",
                f"{one.file_mb:.1f}",
                f"{one.quantize_s:.1f}",
                f"{one.first_call_s:.1f}",
                one.details,
            )
            for name, one in by_speed(rows)
        ],
    )
    without = left_out(workload.name, rows)
    if without:
        yield from ("", "Left out:", "")
        yield from (f"- `{name}`: `{why.replace('`', '')}`" for name, why in without.items())


def _best(item: tuple[str, Figures] | None) -> str:
    if item is None:
        return "none"
    name, one = item
    return f"**{one.ratio:.2f}** `{name}` ({_db(one)} dB)"


def _db(one: Figures) -> str:
    return "exact" if one.sqnr_db is None else f"{one.sqnr_db:.1f}"


def _float_ms(rows: list[Row]) -> str:
    """Over the processes of all peers: their median, and how far apart they are."""
    times = [one.float_ms for _, one in by_speed(rows)]
    return f"{median(times):.2f} ({min(times):.2f} to {max(times):.2f})" if times else "none"
