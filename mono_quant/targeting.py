"""Quantizing to a target: the pipeline up to the converted layers, a search among them, and the pipeline's end."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import attrs
from torch import nn

from mono_quant._plugins.components import Components
from mono_quant.core.plan import tied_layers
from mono_quant.core.surgery import copy_with
from mono_quant.errors import ConfigurationError, TargetError
from mono_quant.modules import leave_fast_paths
from mono_quant.observing import Statistics
from mono_quant.plugin_api import LayerPlan, Observer
from mono_quant.result import QuantizationResult
from mono_quant.rewriting import float_layer
from mono_quant.run import Run
from mono_quant.targets import Metric, Search, Sensitivity, Target, Trial, Ways, chosen, labelled, rank

__all__ = ["Stages", "rank_layers", "reach_target"]

Layers = Mapping[str, nn.Module]


@attrs.frozen(eq=False)
class Stages:
    """The parts of `mono_quant.Quantizer` that are gone through here.

    Args:
        components: of the run.
        prepare: model, data, statistics → the layers that come in place of the model's, and what was found.
        feed: runs data through a model, with observers by layer.
        finish: puts layers together, validates, gives the result.
    """

    components: Components
    prepare: Callable[[nn.Module, Iterable[Any], Statistics | None], tuple[dict[str, nn.Module], Run]]
    feed: Callable[[nn.Module, Iterable[Any], Mapping[str, Observer]], object]
    finish: Callable[..., QuantizationResult]


def reach_target(
    target: Target,
    stages: Stages,
    model: nn.Module,
    data: Iterable[Any] | None,
    statistics: Statistics | None,
    *,
    inplace: bool,
) -> QuantizationResult:
    """Find which layers need something else than what was asked for, and quantize so.

    Raises:
        ConfigurationError: when there is no data, or it can be read once only.
        TargetError: when the target was not met.
    """
    if data is None:
        raise ConfigurationError(
            "a target is measured on data: give calibration_data; on the command line it is --data"
        )
    layers, run, trial, ways = _trial(stages, model, data, target.batches, statistics)
    named = labelled(target.then)
    made: dict[str, dict[str, tuple[nn.Module, LayerPlan]]] = {}

    def add_ways() -> None:
        for way, override in named.items():
            made[way] = ways.of(override)
            trial.add(way, {name: layer for name, (layer, _) in made[way].items()})

    def make(changed: Mapping[str, str], *, inplace: bool = False) -> QuantizationResult:
        by_layer = {name: made.get(way, {}) for name, way in changed.items()}
        own, its_run = chosen(layers, run, by_layer, trial, ways, title=search.title)
        config = stages.components.config
        overrides: dict[Any, Any] = ways.as_overrides({name: named.get(way) for name, way in changed.items()})
        overrides |= {pattern: one for pattern, one in config.overrides.items() if pattern not in overrides}
        return stages.finish(model, own, its_run, config=attrs.evolve(config, overrides=overrides), inplace=inplace)

    search = Search(trial, target, add_ways)
    changed = search.run()
    result = make(changed)
    found = search.confirm(changed, result.model)
    while not found.is_met and (dearer := search.dearer(changed)) is not None:
        changed, result = dearer, make(dearer)
        found = search.confirm(changed, result.model)
    if not found.is_met:
        raise TargetError(
            f"the target was not met:\n{found}\nthe nearest is attached as error.best; other observers, algorithms "
            "or schemes may get further",
            best=attrs.evolve(result, found=found),
        )
    if inplace:
        result = make(changed, inplace=True)
    return attrs.evolve(result, found=found)


def rank_layers(
    stages: Stages, model: nn.Module, data: Iterable[Any], metric: Metric | None, batches: int
) -> Sensitivity:
    """What each layer costs when it alone is quantized.

    Raises:
        ConfigurationError: when the data can be read once only, or no batch is asked for.
    """
    if type(batches) is not int or batches < 1:
        raise ConfigurationError(f"batches must be a whole number of at least 1, got {batches!r}")
    _, run, trial, _ = _trial(stages, model, data, batches, None)
    return rank(trial, run.plan, metric, trial.count)


def _trial(
    stages: Stages, model: nn.Module, data: Iterable[Any], batches: int, statistics: Statistics | None
) -> tuple[dict[str, nn.Module], Run, Trial, Ways]:
    """What `prepare` gives; the model with each layer so or in float, to choose; and what makes further ways."""
    if isinstance(data, Iterator):
        raise ConfigurationError(
            f"the data are read several times, and a {type(data).__name__} can be read once: give a list, a "
            "DataLoader or another iterable"
        )
    layers, run = stages.prepare(model, data, statistics)
    components, modules = stages.components, dict(model.named_modules())
    rewritten = {name for rewrite in run.plan.rewrites for name in rewrite.layers}
    floats = {name: float_layer(components, modules, run.plan, name) for name in sorted({*run.plan.layers, *rewritten})}
    changed = {name: floats[name] for name in rewritten}
    first = [batch.clone() for batch in islice(components.source_for(data).batches(data), batches)]
    if not first:
        raise ConfigurationError("the data gave no batch when they were read again: give a list or a DataLoader")
    trial = Trial(model, changed, {name: layers[name] for name in run.plan.layers}, first, tied_layers(run.plan))

    def feed_again(observers: Mapping[str, Observer]) -> None:
        stages.feed(leave_fast_paths(copy_with(model, changed), ()), data, observers)

    return layers, run, trial, Ways(components, modules, floats, run, feed_again)
