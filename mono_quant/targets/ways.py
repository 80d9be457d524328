"""The ways that a layer can be quantized in besides the run's own: other schemes, other observers."""

from collections.abc import Callable, Iterable, Mapping

import attrs
from torch import nn

from mono_quant._plugins.components import Components
from mono_quant.config import Override
from mono_quant.core.plan import tied_layers
from mono_quant.errors import UnsupportedLayerError
from mono_quant.plugin_api import LayerPlan, Observer, Scheme
from mono_quant.refining import refine
from mono_quant.run import Run

__all__ = ["Ways", "as_overrides", "label"]


@attrs.frozen(eq=False)
class Ways:
    """Makes the quantized layers of an override.

    Args:
        components: of the run.
        modules: of the float model, by name.
        floats: layer → the float layer after its rewrites.
        run: what calibration found.
        feed: runs the data through the rewritten float model, with observers by layer.
    """

    components: Components
    modules: Mapping[str, nn.Module]
    floats: Mapping[str, nn.Module]
    run: Run
    feed: Callable[[Mapping[str, Observer]], None]

    def of(self, override: Override) -> dict[str, nn.Module]:
        """Each layer of the run that it makes another one of: layer → quantized layer."""
        decided = {name: pair for name in self.run.plan.layers if (pair := self._decide(name, override)) is not None}
        wanted = override.observer or self.components.config.observer
        observers = {
            name: self.components.observer_of(wanted, plan.input)
            for name, (_, plan) in decided.items()
            if plan.needs_data and plan.input is not None
        }
        if observers:
            self.feed(observers)
        algorithms, tied = self.components.algorithms, tied_layers(self.run.plan)
        made: dict[str, nn.Module] = {}
        for name, (scheme, plan) in decided.items():
            statistics = {"input": observers[name]} if name in observers else {}
            made[name] = scheme.convert(self.floats[name], plan, statistics)
            if name not in tied:
                refine(self.floats[name], made[name], plan, algorithms, self.run.collected)
        return made

    def _decide(self, name: str, override: Override) -> tuple[Scheme, LayerPlan] | None:
        """The scheme and its plan for a layer; None where the override changes nothing, or does not fit it."""
        if override.scheme is None:
            scheme = self.components.scheme_for(name, self.modules[name])
        else:
            scheme = self.components.scheme_of(override.scheme)
        try:
            plan = scheme.plan(name, self.floats[name])
        except UnsupportedLayerError:  # for instance, its weights do not come in groups of that size
            return None
        changes = override.scheme is not None or (isinstance(plan, LayerPlan) and plan.needs_data)
        return (scheme, plan) if isinstance(plan, LayerPlan) and changes else None


def label(override: Override) -> str:
    """What an override is called in a path: the names of its components."""
    parts = [override.scheme.name] if override.scheme else []
    return ", ".join([*parts, *([f"observer {override.observer.name}"] if override.observer else [])])


def as_overrides(changed: Mapping[str, str], then: Iterable[Override]) -> dict[str, Override | None]:
    """The overrides of a configuration that say the same: exact names of layers, not globs.

    Args:
        changed: layer → label of an override, or ``"float"``.
        then: the overrides.
    """
    by_label = {label(override): override for override in then}
    return {_exactly(name): by_label.get(way) for name, way in changed.items()}


def _exactly(name: str) -> str:
    """A pattern that names this layer alone."""
    return "".join(f"[{letter}]" if letter in "[*?" else letter for letter in name)
