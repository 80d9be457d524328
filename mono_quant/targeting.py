"""Quantizing to a target: the pipeline up to the converted layers, a search among them, and the pipeline's end."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import attrs
from torch import nn

from mono_quant._plugins.components import Components
from mono_quant.config import Override
from mono_quant.core.plan import refuse_empty, tied_layers
from mono_quant.core.surgery import copy_with
from mono_quant.errors import ConfigurationError, TargetError
from mono_quant.format_agreement import refused
from mono_quant.modules import leave_fast_paths
from mono_quant.observing import Statistics
from mono_quant.plugin_api import LayerPlan, Observer
from mono_quant.result import QuantizationResult
from mono_quant.rewriting import float_layer
from mono_quant.run import Run
from mono_quant.targets import Metric, Search, Sensitivity, Target, Trial, Ways, chosen, labelled, rank
from mono_quant.targets.record import FLOAT

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
    models = _Models(stages, model, layers, run, trial, ways, named)
    search = Search(trial, target, models.add_ways)
    models.title = search.title
    changed = models.storable(search.run())
    result = models.make(changed)
    found = search.confirm(changed, result.model)
    while not found.is_met and (dearer := search.dearer(changed)) is not None:
        changed = models.storable(dearer)
        result = models.make(changed)
        found = search.confirm(changed, result.model)
    if not found.is_met:
        raise TargetError(
            f"the target was not met:\n{found}\nthe nearest is attached as error.best; other observers, algorithms "
            "or schemes may get further",
            best=attrs.evolve(result, found=found),
        )
    if inplace:
        result = models.make(changed, inplace=True)
    return attrs.evolve(result, found=found)


@attrs.define(eq=False)
class _Models:
    """Makes the models of choices: layer → the way of those that are changed.

    Args:
        stages: end of the pipeline.
        model: the float model.
        layers: name → what comes in place of the model's own, as asked for.
        run: that they come from.
        trial: has all ways of each layer.
        ways: makes further ones.
        named: these, by their labels.
        title: the target as text.
    """

    stages: Stages
    model: nn.Module
    layers: Mapping[str, nn.Module]
    run: Run
    trial: Trial
    ways: Ways
    named: Mapping[str, Override]
    title: str = ""
    _made: dict[str, dict[str, tuple[nn.Module, LayerPlan]]] = attrs.field(factory=dict, init=False)
    _unstorable: dict[str, str] = attrs.field(factory=dict, init=False)

    def add_ways(self) -> None:
        """Make all layers of all further ways, for the trial to choose from."""
        for way, override in self.named.items():
            self._made[way] = self.ways.of(override)
            self.trial.add(way, {name: layer for name, (layer, _) in self._made[way].items()})

    def storable(self, changed: dict[str, str]) -> dict[str, str]:
        """The choice with more layers in float, where the format cannot hold them beside the others."""
        components = self.stages.components
        while reasons := refused(self._chosen(changed)[1].plan, components):
            those = {name: reasons.keys() & {name, *self.trial.inner(name)} for name in self.trial.free}
            more = {name: min(those[name]) for name in those if those[name] and changed.get(name) != FLOAT}
            if not more:
                break  # what cannot be chosen for one by one, which saving will refuse
            self._unstorable |= {name: f"the format cannot hold it: {reasons[one]}" for name, one in more.items()}
            changed = {**changed, **dict.fromkeys(more, FLOAT)}
        return changed

    def make(self, changed: Mapping[str, str], *, inplace: bool = False) -> QuantizationResult:
        """Put it together, validate, and give the result.

        Raises:
            ConfigurationError: when nothing in it is quantized.
        """
        layers, run = self._chosen(changed)
        refuse_empty(run.plan)
        config = self.stages.components.config
        overrides: dict[Any, Any] = self.ways.as_overrides({name: self.named.get(way) for name, way in changed.items()})
        overrides |= {pattern: one for pattern, one in config.overrides.items() if pattern not in overrides}
        config = attrs.evolve(config, overrides=overrides)
        return self.stages.finish(self.model, layers, run, config=config, inplace=inplace)

    def _chosen(self, changed: Mapping[str, str]) -> tuple[dict[str, nn.Module], Run]:
        by_layer = {name: self._made.get(way, {}) for name, way in changed.items()}
        needed = f"the target needs it: {self.title}"
        return chosen(
            self.layers, self.run, by_layer, self.trial, self.ways,
            why_kept=lambda name: self._unstorable.get(name, needed),
        )  # fmt: skip


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
