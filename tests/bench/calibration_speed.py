"""What calibration takes beyond the forward passes that it consists of, for several models and observers."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.calibration import run_calibration
from mono_quant.observing import new_observers
from mono_quant.plugin_api import Batch, Plan

from .peers.workloads import WORKLOADS
from .tables import table

__all__ = ["lines"]

CASES = {"resnet18": "batch 8", "mobilenet_v2": "batch 1", "mlp": "batch 64", "minilm": "1 x 128 tokens"}
OBSERVERS = ("minmax", "moving-average", "histogram", "mse", "percentile")
_BATCHES = 8
_PLACES = 2 * 2048 - 1
_BUDGET_S = 20.0
_FEWEST_ROUNDS = 5
_INTRODUCTION = """\
Times the bare forward passes of {batches} batches in float32 eager; {threads} threads. All runs of a model take turns
in one process, and each figure is the median over the rounds. *Ends alone* are the bare passes with a hook on each
observed layer that calls `torch.aminmax` on its input and does nothing else; *counts alone* are those with one that
calls `torch.bincount` on codes that lie ready. On a machine that others use, two runs of this table differed by up to
0.2 in a figure.
"""
_REST = """
The rest is of two kinds. *Once a run* is what does not grow with the batches: every tensor of the model is noted, the
first batch is watched for writes, at the end all is compared, and a histogram's range is searched for. For each further
batch there remain a few operations on the ends of each layer, and what makes codes of numbers. Where passes are short
beside the activations that they make, as those of MobileNetV2, reading and counting these is a large part of them."""


def lines() -> Iterator[str]:
    """The section of the page."""
    yield _INTRODUCTION.format(batches=_BATCHES, threads=torch.get_num_threads())
    head = (
        "model",
        "bare ms",
        "ends alone",
        "minmax",
        "moving-average",
        "counts alone",
        "histogram",
        "mse",
        "percentile",
    )
    rows = [_row(name, case) for name, case in CASES.items()]
    yield from table((*head, "once a run: minmax", "histogram"), rows)
    yield _REST


def _row(name: str, case: str) -> tuple[str, ...]:
    workload = WORKLOADS[name]
    model = workload.load()
    batches = ([Batch(args=args) for args in workload.calibration(case)] * 2)[:_BATCHES]
    plan = Quantizer(show_progress=False).plan(model)
    layers = [layer for layer, decision in plan.layers.items() if decision.needs_data]
    codes = _codes(model, batches[0], layers)
    runs: dict[str, Callable[[], None]] = {
        "bare": partial(_hooked, model, batches, {}),
        "ends alone": partial(_hooked, model, batches, dict.fromkeys(layers, torch.aminmax)),
        "counts alone": partial(_hooked, model, batches, {layer: partial(_count, codes[layer]) for layer in layers}),
    }
    for observer in OBSERVERS:
        quantizer = Quantizer(observer=observer, show_progress=False)
        run = partial(_calibrated, quantizer, model, plan, layers)
        runs[observer] = partial(run, batches)
        runs[f"{observer}, one batch"] = partial(run, batches[:1])
    times = _in_turn(runs)

    def ratio(run: str) -> str:
        return f"{median(one / bare for one, bare in zip(times[run], times['bare'], strict=True)):.2f}"

    def once(observer: str) -> str:
        one, all_ = median(times[f"{observer}, one batch"]), median(times[observer])
        spent = one - (all_ - one) / (_BATCHES - 1)
        return f"{spent:.0f} ms" if spent > median(times["bare"]) / 100 else "below 1 %"

    return (
        f"{workload.title.partition(' (')[0]}, {case}", f"{median(times['bare']):.0f}",
        ratio("ends alone"), f"**{ratio('minmax')}**", ratio("moving-average"),
        ratio("counts alone"), f"**{ratio('histogram')}**", ratio("mse"), ratio("percentile"),
        once("minmax"), once("histogram"),
    )  # fmt: skip


def _in_turn(runs: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Milliseconds of each, round by round, after a round that is not timed."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    end = time.perf_counter() + _BUDGET_S
    while time.perf_counter() < end or len(times["bare"]) < _FEWEST_ROUNDS:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def _calibrated(quantizer: Quantizer, model: nn.Module, plan: Plan, layers: list[str], batches: list[Batch]) -> None:
    observers = new_observers(quantizer.components, dict(model.named_modules()), plan, layers)
    run_calibration(model, batches, observers, show_progress=False)


def _hooked(model: nn.Module, batches: list[Batch], looks: dict[str, Callable[[Tensor], object]]) -> None:
    """The bare passes, with a look at the input of each of these layers."""
    with torch.no_grad(), ExitStack() as stack:
        for name, look in looks.items():
            stack.callback(model.get_submodule(name).register_forward_pre_hook(partial(_look, look)).remove)
        for batch in batches:
            model(*batch.args)


def _look(look: Callable[[Tensor], object], _: nn.Module, args: tuple[Tensor, ...]) -> None:
    look(args[0])


def _count(codes: Tensor, _: Tensor) -> Tensor:
    return codes.bincount(minlength=_PLACES)


def _codes(model: nn.Module, batch: Batch, layers: list[str]) -> dict[str, Tensor]:
    """The places of the numbers of each layer's input among as many bins as a histogram has."""
    found: dict[str, Tensor] = {}

    def keep(name: str, x: Tensor) -> None:
        half = _PLACES // 2
        found[name] = (x / x.abs().max().clamp(min=1e-30) * half).ceil().add(half).flatten().int()

    _hooked(model, [batch], {name: partial(keep, name) for name in layers})
    return found
