"""The calibration data passing through the model: once for all, and once more where rewrites change inputs."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import attrs
from torch import nn

from mono_quant._plugins.components import Components
from mono_quant.calibration.runner import feed, never_ran
from mono_quant.calibration.state import untouched
from mono_quant.core.dataflow import DataFlowRecorder
from mono_quant.core.intervention import ProvenFlow
from mono_quant.core.plan import refuse_empty, settle
from mono_quant.core.plan_flow import read_outside, worth_watching
from mono_quant.core.surgery import copy_with
from mono_quant.errors import ConfigurationError, PluginError
from mono_quant.io.checks import run_once
from mono_quant.modules import leave_fast_paths
from mono_quant.observing import Statistics, new_observers, recall
from mono_quant.plugin_api import Algorithm, Batch, Observer, Plan
from mono_quant.refining import refines
from mono_quant.rewriting import (
    Watched,
    collectors_of,
    refuse_other_function,
    refuse_read_once,
    rewritten_layers,
    with_other_inputs,
)
from mono_quant.run import Run

__all__ = ["DataPasses"]


@attrs.frozen
class DataPasses:
    """What a run sees of its data.

    Args:
        components: of the run.
        show_progress: bars or not; None shows them on a terminal, on long work.
    """

    components: Components
    show_progress: bool | None

    def first(
        self, model: nn.Module, plan: Plan, data: Iterable[Any] | None, statistics: Statistics | None = None
    ) -> Run:
        """Watch the data pass through the model: ranges for the observers, flow for the algorithms."""
        needy = [name for name, layer in plan.layers.items() if layer.needs_data]
        modules = dict(model.named_modules())
        observers = new_observers(self.components, modules, plan, needy)
        if statistics is not None:
            recall(self.components, modules, plan, observers, statistics)
        if data is None:
            if needy and statistics is None:
                raise ConfigurationError(
                    f"{self.components.config.scheme.name} needs calibration_data: the inputs of {len(needy)} layers "
                    "have no range without it. Give a DataLoader, a list of tensors or any iterable of batches; on the "
                    "command line it is --data"
                )
            return Run(plan=plan, observers=observers)
        refuse_read_once(data, self.components.algorithms)
        watched = worth_watching(modules, plan)
        recorder = DataFlowRecorder(model, watched)
        finding = [(name, one) for name, one in self.components.algorithms if not self._waits(one)]
        collectors = collectors_of(finding, modules, watched, plan)
        seeing = observers if statistics is None else {}
        count, first = self.feed(model, data, seeing, watch=recorder, collectors=collectors)
        plan = settle(model, plan.decide(read_outside(recorder, plan)))
        refuse_empty(plan)
        observers = {name: observer for name, observer in observers.items() if name in plan.layers}
        never_ran(observers)
        flow = ProvenFlow(model, recorder, lambda: run_once(model, first))
        for (name, algorithm), collector in zip(finding, collectors, strict=True):
            with untouched(f"algorithm {name!r}", model):
                layers = {**modules, **rewritten_layers(self.components, modules, plan)}
                found = algorithm.find(layers, plan, Watched(flow, collector.statistics))
                del layers
            if found and algorithm.only_refines:
                raise PluginError(f"algorithm {name!r} says that it only refines, and found {len(found)} rewrites")
            plan = plan.rewrite([*plan.rewrites, *found])
        refining = {name for name, algorithm in self.components.algorithms if refines(algorithm)}
        collected = {c.algorithm: c.statistics for c in collectors if c.algorithm in refining}  # the others are done
        return Run(plan=plan, observers=observers, batches=count, first=first, collected=collected)

    def feed(
        self,
        model: nn.Module,
        data: Iterable[Any],
        observers: Mapping[str, Observer],
        **watching: Any,  # noqa: ANN401 - see below
    ) -> tuple[int, Batch]:
        """Run the calibration data through a model; ``watching`` is as in `feed`."""
        source = self.components.source_for(data)
        return feed(
            model,
            source.batches(data),
            observers,
            num_samples=self.components.config.num_samples,
            show_progress=self.show_progress,
            length=source.length(data),
            **watching,
        )

    def second(self, model: nn.Module, run: Run, data: Iterable[Any] | None) -> Run:
        """Watch the data pass once more, where layers get other inputs after the rewrites, or might have."""
        changed = with_other_inputs(run.plan, self.components.algorithms)
        is_awaited = any(self._waits(one) for _, one in self.components.algorithms)
        if not (changed or is_awaited) or data is None or run.first is None:
            return run
        run.collected.clear()  # large, and collected again; and whoever called may hold the run
        modules = dict(model.named_modules())
        floats = rewritten_layers(self.components, modules, run.plan) if changed else {}
        rewritten = model
        if changed:
            rewritten = leave_fast_paths(copy_with(model, floats, sharing_tensors=True), ())  # `feed` puts all back
            claimed = any(one.checks_every_batch for _, one in self.components.algorithms)
            for batch in self._drawn(data) if claimed else [run.first]:
                refuse_other_function(model, rewritten, batch, run.plan, are_claimed=claimed)
        stale = [name for name in run.observers if name in changed]
        observers = new_observers(self.components, modules, run.plan, stale)
        refining = [(name, one) for name, one in self.components.algorithms if refines(one)]
        collectors = collectors_of(refining, {**modules, **floats}, run.plan.layers, run.plan)
        self.feed(rewritten, data, observers, collectors=collectors)
        never_ran(observers)
        collected = {collector.algorithm: collector.statistics for collector in collectors}
        return attrs.evolve(run, observers={**run.observers, **observers}, collected=collected)

    def _drawn(self, data: Iterable[Any]) -> Iterator[Batch]:
        """The batches that `feed` draws."""
        return islice(self.components.source_for(data).batches(data), self.components.config.num_samples)

    def _waits(self, algorithm: Algorithm) -> bool:
        """Whether an algorithm collects nothing before others have changed inputs."""
        others = (one for _, one in self.components.algorithms if one is not algorithm)
        return algorithm.only_refines and any(one.changes_inputs for one in others)
