"""What watching costs: calibration with all observers and the data-flow recorder against the bare forward passes."""

import json
import sys
import time
from collections.abc import Callable
from statistics import median

from mono_quant import Quantizer
from mono_quant.calibration.data import as_batch
from mono_quant.calibration.runner import evaluating, feed
from mono_quant.core.dataflow import DataFlowRecorder
from mono_quant.core.plan_flow import worth_watching

from .workloads import workload

_ROUNDS = 21


def main(name: str) -> dict[str, object]:
    load = workload(name)
    model, batches = load.load(), [as_batch(batch) for batch in load.calibration()[:8]]
    quantizer = Quantizer()
    plan = quantizer.plan(model)
    modules = dict(model.named_modules())

    def bare() -> None:
        with evaluating(model):
            for batch in batches:
                model(*batch.args, **batch.kwargs)

    def observed(*, with_flow: bool) -> None:
        observers = {
            layer: quantizer.components.observer_for(layer, modules[layer], decision.input)
            for layer, decision in plan.layers.items()
            if decision.needs_data and decision.input is not None
        }
        watch = DataFlowRecorder(model, worth_watching(modules, plan)) if with_flow else None
        feed(model, iter(batches), observers, num_samples=8, show_progress=False, length=8, watch=watch)

    calls = {"bare": bare, "observers": lambda: observed(with_flow=False), "all": lambda: observed(with_flow=True)}
    times = _in_turn(calls)
    return {
        "bare_ms": times["bare"],
        "observers": times["observers"] / times["bare"],
        "observers_and_flow": times["all"] / times["bare"],
    }


def _in_turn(calls: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median milliseconds of each; one after another, since a call takes as long as the machine's speed may change."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: median(spent) for name, spent in times.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])) + "\n")
