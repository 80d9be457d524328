"""What watching costs: calibration with all observers and the data-flow recorder against the bare forward passes."""

import json
import sys

from mono_quant import Quantizer
from mono_quant.calibration.data import as_batch
from mono_quant.calibration.runner import evaluating, feed
from mono_quant.core.dataflow import DataFlowRecorder
from mono_quant.core.latency import alternate
from mono_quant.quantizer import _with_tensors

from .workloads import workload


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
        watch = DataFlowRecorder(model, _with_tensors(modules, plan)) if with_flow else None
        feed(model, iter(batches), observers, num_samples=8, show_progress=False, length=8, watch=watch)

    bare_ms, observed_ms = alternate(lambda _: bare(), lambda _: observed(with_flow=False), lambda: None, budget_s=5)
    bare_again_ms, all_ms = alternate(lambda _: bare(), lambda _: observed(with_flow=True), lambda: None, budget_s=5)
    return {"bare_ms": bare_ms, "observers": observed_ms / bare_ms, "observers_and_flow": all_ms / bare_again_ms}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])) + "\n")
