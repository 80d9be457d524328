"""Where the time of each workload goes, and how far that is from what this machine can do.

``nox -s bench_limits`` writes docs/reference/limits.md; some minutes, on a quiet machine.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from pathlib import Path
from statistics import median

import attrs
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mono_quant import Quantizer
from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.modules import KernelModule, LinearByKernel, QuantizedLinear
from mono_quant.plugin_api import Batch, QuantizedOp

from ..tables import table
from .machine import cpu
from .workloads import WORKLOADS, Inputs

__all__ = ["Limits", "Spent"]

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "limits.md"
CASES = (
    ("resnet18", "batch 1", "int8-static"),
    ("resnet18", "batch 8", "int8-static"),
    ("mobilenet_v2", "batch 1", "int8-static"),
    ("minilm", "1 x 128 tokens", "int8-dynamic"),
    ("minilm", "16 x 128 tokens", "int8-dynamic"),
    ("llama", "prefill of 128 tokens", "int8-dynamic"),
    ("llama", "one token", "int8-weight-only"),
    ("llama", "one token", "int4-weight-only"),
    ("mlp", "batch 1", "int8-static"),
    ("mlp", "batch 64", "int8-static"),
)
_INTRODUCTION = """\
# Limits

Where the time of the workloads of [Peers](peers.md) goes when a quantized model runs eagerly, and how far that is from
what the machine can do. Written by `nox -s bench_limits`.

Machine: {machine}. Measured here:

- int8 multiply-adds: **{most.gmacs:.0f} billion a second**, the faster of fbgemm and oneDNN on 1024 x 4096 x 4096;
- reading: **{most.cached_gb:.0f} GB/s** of 24 MB, again and again, and **{most.memory_gb:.0f} GB/s** of 512 MB.

A quantized `Linear(64, 64)` at batch 1 takes **{module:.1f} µs**. The kernel that it calls takes {kernel:.1f} µs by
itself, quantizing the input included, and float {float:.1f} µs: the module adds {added:.1f} µs to the bare kernel.

*Floor* is the longer of two times: that of the quantized layers' multiply-adds at this rate, and that of reading their
codes and scales, from the caches where they are at most 24 MB. Kernels, other operators and Python add up to the
whole: operators are torch's own times on the main thread, by its profiler, and *Python* is what is left.
"""
_KERNELS = ("onednn::", "quantized::", "aten::_weight_int", "aten::_int_mm")
_MB = 2**20


@attrs.frozen(kw_only=True)
class Limits:
    """What this machine does at most, with the threads that torch has.

    Args:
        gmacs: billions of int8 multiply-adds a second: the faster kernel on a matrix product of 1024 x 4096 x 4096.
        cached_gb: GB a second that are read from weights that fit the caches, 24 MB of them.
        memory_gb: the same of 512 MB, which do not.
    """

    gmacs: float
    cached_gb: float
    memory_gb: float


@attrs.frozen(kw_only=True)
class Spent:
    """Where the milliseconds of one batch go.

    Args:
        total: wall time.
        kernels: in int8 kernels, or those of weights alone.
        others: in other operators of torch, by name.
        macs: multiply-adds of quantized layers.
        weight_mb: MB of codes and scales that they read.
    """

    total: float
    kernels: float
    others: Counter[str]
    macs: int
    weight_mb: float


def limits() -> Limits:
    """Measured."""
    rows, features = 1024, 4096
    generator = torch.Generator().manual_seed(0)
    op = QuantizedOp(
        kind="linear",
        weight=torch.randint(-64, 65, (features, features), dtype=torch.int8, generator=generator),
        weight_scale=torch.full((features,), 0.01),
        bias=None,
        input_scale=0.02,
        input_zero_point=128,
    )
    x = torch.randn(rows, features, generator=generator)
    runs = [kernel.pack(op) for kernel in (FbgemmKernel(), OnednnKernel())]
    fastest = min(_seconds(partial(run, x)) for run in runs)
    small, large = torch.ones(24 * _MB, dtype=torch.uint8), torch.ones(512 * _MB, dtype=torch.uint8)
    cached, memory = (tensor.nbytes / _seconds(tensor.view(torch.int64).sum) for tensor in (small, large))
    return Limits(gmacs=rows * features**2 / fastest / 1e9, cached_gb=cached / 1e9, memory_gb=memory / 1e9)


def spent(model: nn.Module, inputs: Inputs) -> Spent:
    """Of one batch."""
    with torch.inference_mode():
        macs = _macs(model, inputs)
        total = _seconds(lambda: model(*inputs)) * 1e3
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            for _ in range(_RUNS):
                model(*inputs)
    kernels, others = 0.0, Counter[str]()
    for event in profiled.key_averages():
        milliseconds = event.self_cpu_time_total / 1e3 / _RUNS
        if event.key.startswith(_KERNELS):
            kernels += milliseconds
        elif event.key.startswith(("aten::", "mono_quant::")):
            others[event.key.removeprefix("aten::")] += milliseconds
    return Spent(total=total, kernels=kernels, others=others, macs=macs, weight_mb=_weight_mb(model))


_RUNS = 10


def _seconds(call: Callable[[], object], budget_s: float = 3.0) -> float:
    """Median of one call."""
    for _ in range(3):
        call()
    times: list[float] = []
    end = time.perf_counter() + budget_s
    while len(times) < 5 or (len(times) < 200 and time.perf_counter() < end):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


def _macs(model: nn.Module, inputs: Inputs) -> int:
    """Multiply-adds of the quantized layers in one run."""
    counted = 0

    def count(layer: nn.Module, _: tuple[object, ...], output: Tensor) -> None:
        nonlocal counted
        shape = layer.weight_specs["weight"].shape
        counted += output.numel() * prod(shape[1:])

    layers = [module for module in model.modules() if isinstance(module, KernelModule | LinearByKernel)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    model(*inputs)
    for handle in handles:
        handle.remove()
    return counted


def _weight_mb(model: nn.Module) -> float:
    layers = (module for module in model.modules() if isinstance(module, KernelModule | LinearByKernel))
    return sum(tensor.nbytes for layer in layers for tensor in layer.stored("weight").values()) / _MB


def overhead() -> tuple[float, float, float]:
    """Microseconds of a quantized ``Linear(64, 64)`` at batch 1: the module, its kernel's call alone, and float."""
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 64).eval(), torch.randn(1, 64)
    quantized = Quantizer(validators=(), algorithms=()).quantize(nn.Sequential(layer), [x]).model[0]
    assert isinstance(quantized, QuantizedLinear)
    with torch.inference_mode():
        quantized(x)
        (bare,) = quantized.engine._packed.by_name.values()
        calls = (lambda: quantized(x), lambda: bare(x), lambda: layer(x))
        times: list[list[float]] = [[], [], []]
        for _ in range(30):
            for call, spent_here in zip(calls, times, strict=True):
                start = time.perf_counter()
                for _ in range(1000):
                    call()
                spent_here.append((time.perf_counter() - start) * 1e3)
    module, kernel, of_float = map(median, times)
    return module, kernel, of_float


def _lines() -> Iterator[str]:
    most = limits()
    module, kernel, of_float = overhead()
    yield _INTRODUCTION.format(
        machine=f"{cpu()}; torch {torch.__version__}, {torch.get_num_threads()} threads",
        most=most,
        module=module,
        kernel=kernel,
        float=of_float,
        added=module - kernel,
    )
    lines = []
    for name, case, scheme in CASES:
        workload = WORKLOADS[name]
        model, calibration = workload.load(), workload.calibration(case)
        quantizer = Quantizer(scheme, validators=(), show_progress=False)
        quantized = quantizer.quantize(model, [Batch(args=inputs) for inputs in calibration]).model
        one = spent(quantized, calibration[0])
        compute = one.macs / most.gmacs / 1e6
        rate = most.cached_gb if one.weight_mb <= 24.5 else most.memory_gb
        reading = one.weight_mb * _MB / rate / 1e6
        floor, bound = max((compute, "multiply-adds"), (reading, "reading"))
        others = sum(one.others.values())
        largest = ", ".join(f"{key} {value:.2f}" for key, value in one.others.most_common(4))
        lines.append((
            f"{name}, {case}, {scheme}",
            f"**{one.total:.2f}**",
            f"{one.kernels:.2f}",
            f"{others:.2f} ({largest})",
            f"{max(0.0, one.total - one.kernels - others):.2f}",
            f"{one.macs / 1e9:.2f}",
            f"{one.weight_mb:.1f}",
            f"{floor:.2f} ({bound})",
            f"{one.total / floor:.1f}",
        ))  # fmt: skip
    head = (
        "workload", "ms", "kernels", "other operators (largest)", "Python", "billion multiply-adds", "MB read",
        "floor ms", "times the floor",
    )  # fmt: skip
    yield from table(head, lines)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=PAGE)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    told.output.write_text("\n".join(_lines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
