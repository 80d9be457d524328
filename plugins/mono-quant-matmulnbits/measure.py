"""The table of the README, on this machine: ``python measure.py``.

All kernels take turns, so that a machine that is busy for a while slows down all of them. Each has its own weights;
the caches of the CPU are cold, as they are in a model.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from mono_quant.core.encoding import encode
from mono_quant.kernels.bfloat16 import Int4PackKernel
from mono_quant.kernels.dequantize import DequantizeKernel
from mono_quant.plugin_api import Kernel, WeightOnlyOp, WeightSpec
from torch import Tensor, nn

from mono_quant_matmulnbits import MatMulNBitsKernel

KERNELS: dict[str, type[Kernel]] = {
    "dequantize": DequantizeKernel,
    "int4pack": Int4PackKernel,
    "matmulnbits": MatMulNBitsKernel,
}
SHAPES = ((4096, 4096), (1024, 4096))
GROUPS = (32, 128)
ROWS = (1, 8, 64, 256)
COLD_BYTES = 2**26
SECONDS = 8.0


def main() -> None:
    """Print a table of milliseconds a call."""
    cells = ["out x in", "group", "rows", "nn.Linear", *KERNELS]
    for line in (cells, ["---"] * len(cells)):
        sys.stdout.write(f"| {' | '.join(line)} |\n")
    for out, features in SHAPES:
        for group in GROUPS:
            runs = layers(out, features, group)
            for rows in ROWS:
                times = milliseconds(list(runs.values()), torch.randn(rows, features))
                line = [f"{out} x {features}", str(group), str(rows), *(f"{one:.2f}" for one in times)]
                sys.stdout.write(f"| {' | '.join(line)} |\n")
                sys.stdout.flush()


def layers(out: int, features: int, group: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """One layer, by the name of what runs it."""
    linear = nn.Linear(features, out).requires_grad_(requires_grad=False)
    spec = WeightSpec(dtype="int4", symmetric=False, granularity=f"per-group({group})", shape=(out, features))
    op = WeightOnlyOp(stored=encode(linear.weight, spec), spec=spec, bias=linear.bias)
    return {"nn.Linear": linear, **{name: kernel().pack(op) for name, kernel in KERNELS.items()}}


def milliseconds(runs: list[Callable[[Tensor], Tensor]], x: Tensor) -> list[float]:
    """The median of each, in turn for some seconds."""
    times: list[list[float]] = [[] for _ in runs]
    cold = torch.zeros(COLD_BYTES, dtype=torch.uint8)
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times[0]) < 5:  # noqa: PLR2004 - also when each takes a second
        for run, taken in zip(runs, times, strict=True):
            cold.add_(1)
            start = time.perf_counter()
            run(x)
            taken.append(1000 * (time.perf_counter() - start))
    return [median(taken[1:]) for taken in times]


if __name__ == "__main__":
    main()
