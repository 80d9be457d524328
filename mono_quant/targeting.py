"""Quantizing to a target: the pipeline up to the converted layers, a search among them, and the pipeline's end."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import attrs
from torch import nn

from mono_quant._plugins.components import Components
from mono_quant.config import Override, with_first
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
from mono_quant.targets.record import ASKED, FLOAT

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
    search = Search(trial, target, models.add_ways, models.storable)
    models.title = search.title
    changed = search.run()
    result = models.make(changed)
    found = search.confirm(changed, result.model)
    while not found.is_met and (dearer := search.dearer(changed)) is not None:
        changed, result = dearer, models.make(dearer)
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
    _unstorable: dict[frozenset[tuple[str, str]], dict[str, str]] = attrs.field(factory=dict, init=False)
    """For each choice the reasons why layers in it are float that the target does not need so."""

    def add_ways(self) -> None:
        """Make all layers of all further ways, for the trial to choose from."""
        for way, override in self.named.items():
            self._made[way] = self.ways.of(override)
            self.trial.add(way, {name: layer for name, (layer, _) in self._made[way].items()})

    def storable(self, changed: dict[str, str]) -> dict[str, str] | None:
        """The choice, with other ways for layers that the format refuses beside the others; None where none is left.

        They are all given one of the ways that they have, where the format takes that; else they are kept in float.
        """
        choice, alike, why = changed, set[str](), dict[str, str]()
        while reasons := self._refused(choice):
            torn = {name: min(found) for name in self.trial.free if (found := reasons.keys() & self._whole(name))}
            if not torn or all(choice.get(name) == FLOAT for name in torn):
                return None  # they share a weight, and cannot be chosen for one by one
            one_way = None if alike & torn.keys() else self._of_one_way(choice, torn)
            alike |= torn.keys()
            if one_way is None:
                why |= {name: f"the format cannot hold it: {reasons[one]}" for name, one in torn.items()}
            choice = {**choice, **dict.fromkeys(torn, FLOAT)} if one_way is None else one_way
        self._unstorable[frozenset(choice.items())] = why
        return choice

    def _of_one_way(self, choice: dict[str, str], torn: Collection[str]) -> dict[str, str] | None:
        """The choice with one way for these layers, which the format takes: of theirs, the last in order."""
        theirs = {choice.get(name, ASKED) for name in torn}
        for way in reversed([way for way in (ASKED, *self.named) if way in theirs]):
            others = {name: other for name, other in choice.items() if name not in torn}
            one_way = others if way == ASKED else {**others, **dict.fromkeys(torn, way)}
            has_it = all(way in self.trial.ways(name) for name in torn)
            if has_it and not self._refused(one_way).keys() & {one for name in torn for one in self._whole(name)}:
                return one_way
        return None

    def _refused(self, choice: Mapping[str, str]) -> dict[str, str]:
        return refused(self._chosen(choice)[1].plan, self.stages.components)

    def _whole(self, name: str) -> set[str]:
        """A layer and those inside of it."""
        return {name, *self.trial.inner(name)}

    def make(self, changed: Mapping[str, str], *, inplace: bool = False) -> QuantizationResult:
        """Put it together, validate, and give the result.

        Raises:
            ConfigurationError: when nothing in it is quantized.
        """
        layers, run = self._chosen(changed)
        refuse_empty(run.plan)
        overrides = self.ways.as_overrides({name: self.named.get(way) for name, way in changed.items()})
        config = with_first(self.stages.components.config, overrides)
        return self.stages.finish(self.model, layers, run, config=config, inplace=inplace)

    def _chosen(self, changed: Mapping[str, str]) -> tuple[dict[str, nn.Module], Run]:
        by_layer = {name: self._made.get(way, {}) for name, way in changed.items()}
        reasons = self._unstorable.get(frozenset(changed.items()), {})
        needed = f"the target needs it: {self.title}"
        return chosen(
            self.layers, self.run, by_layer, self.trial, self.ways, why_kept=lambda name: reasons.get(name, needed)
        )


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
