"""Observers for the inputs of layers: new ones that data runs through, or ones that have seen it in an earlier run."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import nn

from mono_quant._plugins.components import Components
from mono_quant.component import Component
from mono_quant.errors import CalibrationError
from mono_quant.io.statistics import LayerStatistics, load_statistics
from mono_quant.plugin_api import Observer, Plan
from mono_quant.rewriting import with_other_inputs
from mono_quant.run import Run

__all__ = ["Statistics", "new_observers", "observed", "recall", "wanted_observers"]

Statistics = Mapping[str, LayerStatistics] | str | Path
"""What observers have seen, by layer, or the file that it was saved in."""


def new_observers(
    components: Components, modules: Mapping[str, nn.Module], plan: Plan, names: Iterable[str]
) -> dict[str, Observer]:
    """A new observer for the input of each of these layers."""
    also = {entry.name: entry.also for entry in plan.entries}
    specs = {name: plan.layers[name].input for name in names}
    return {
        name: components.observer_for(name, modules[name], spec, also=also[name])
        for name, spec in specs.items()
        if spec is not None
    }


def recall(
    components: Components,
    modules: Mapping[str, nn.Module],
    plan: Plan,
    observers: Mapping[str, Observer],
    statistics: Statistics,
) -> None:
    """Let observers have seen what others have in an earlier run.

    Raises:
        ArtifactError: when the file cannot be read.
        CalibrationError: when there is nothing of a layer.
        ConfigurationError: when it is of another kind of observer.
    """
    seen = statistics if isinstance(statistics, Mapping) else load_statistics(statistics)
    wanted = wanted_observers(components, modules, plan, observers)
    if missing := [name for name in observers if name not in seen]:
        raise CalibrationError(
            f"the statistics have nothing of {', '.join(map(repr, missing))}; they are of "
            f"{', '.join(map(repr, seen)) or 'no layer'}"
        )
    for name, observer in observers.items():
        seen[name].load_into(observer, wanted[name])


def observed(components: Components, model: nn.Module, run: Run) -> dict[str, tuple[Observer, Component]]:
    """The observers of the float model's own inputs, each with how it was asked for."""
    changed = with_other_inputs(run.plan, components.algorithms)
    kept = {name: observer for name, observer in run.observers.items() if name not in changed}
    wanted = wanted_observers(components, dict(model.named_modules()), run.plan, kept)
    return {name: (observer, wanted[name]) for name, observer in kept.items()}


def wanted_observers(
    components: Components, modules: Mapping[str, nn.Module], plan: Plan, names: Iterable[str]
) -> dict[str, Component]:
    """How the observer of each of these layers is asked for."""
    also = {entry.name: entry.also for entry in plan.entries}
    return {name: components.observer_component(name, modules[name], also=also[name]) for name in names}
