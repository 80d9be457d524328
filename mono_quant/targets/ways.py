"""The ways that a layer can be quantized in besides the run's own: other schemes, other observers."""

from collections.abc import Callable, Iterable, Mapping

import attrs
from torch import nn

from mono_quant._plugins.components import Components
from mono_quant.calibration.state import untouched
from mono_quant.config import Component, Override
from mono_quant.core.plan import tied_layers
from mono_quant.core.selection import exactly
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.errors import UnsupportedLayerError
from mono_quant.format_agreement import refused
from mono_quant.plugin_api import LayerPlan, Observer, Scheme
from mono_quant.refining import refine
from mono_quant.rewriting import use_kernels
from mono_quant.run import Run

__all__ = ["Ways", "labelled"]


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

    def of(self, override: Override) -> dict[str, tuple[nn.Module, LayerPlan]]:
        """Each layer of the run that it makes another one of: layer → quantized layer, and how.

        None of those that the configuration's format refuses.
        """
        decided = {name: pair for name in self.run.plan.layers if (pair := self._decide(name, override)) is not None}
        plans = {name: plan for name, (_, plan) in decided.items()}
        for name in refused(self.run.plan.decide(plans), self.components):
            decided.pop(name, None)
        observers = {
            name: self.components.observer_of(self.in_force(name, override).observer, plan.input)
            for name, (_, plan) in decided.items()
            if plan.needs_data and plan.input is not None
        }
        if observers:
            self.feed(observers)
        algorithms, tied = self.components.algorithms, tied_layers(self.run.plan)
        made: dict[str, tuple[nn.Module, LayerPlan]] = {}
        for name, (scheme, plan) in decided.items():
            layer = self.floats[name]
            statistics = {"input": observers[name]} if name in observers else {}
            try:
                with untouched(f"scheme {plan.scheme!r}, which converts layer {name!r},", layer):
                    quantized = scheme.convert(layer, plan, statistics)
            except UnsupportedLayerError:  # for instance, its weights are beyond float16
                continue
            if name not in tied:
                refine(layer, quantized, plan, algorithms, self.run.collected)
            use_kernels(quantized, self.components)
            made[name] = (quantized, plan)
        return made

    def in_force(self, name: str, override: Override) -> "InForce":
        """The components of a layer: those of the override, else those that the configuration has for it."""
        also = next(entry.also for entry in self.run.plan.entries if entry.name == name)
        module = self.modules[name]
        return InForce(
            scheme=override.scheme or self.components.scheme_component(name, module, also=also),
            observer=override.observer or self.components.observer_component(name, module, also=also),
        )

    def as_overrides(self, changed: Mapping[str, Override | None]) -> dict[str, Override | None]:
        """The overrides of a configuration that say the same, whole, by patterns that name these layers alone."""
        whole = {name: None if one is None else self.in_force(name, one) for name, one in changed.items()}
        return {
            exactly(name): None if one is None else Override(scheme=one.scheme, observer=one.observer)
            for name, one in whole.items()
        }

    def _decide(self, name: str, override: Override) -> tuple[Scheme, LayerPlan] | None:
        """The scheme and its plan for a layer; None where the override changes nothing, or does not fit it."""
        scheme = self.components.scheme_of(self.in_force(name, override).scheme)
        try:
            plan = scheme.plan(name, self.floats[name])
        except UnsupportedLayerError:  # for instance, its weights do not come in groups of that size
            return None
        if not isinstance(plan, LayerPlan) or not (plan.needs_data or override.scheme is not None):
            return None
        return None if plan.weights and all(map(_is_as_large_as_float, plan.weights.values())) else (scheme, plan)


def _is_as_large_as_float(spec: WeightSpec) -> bool:
    return not spec.is_scaled and spec.dtype.storage.itemsize >= spec.dequantized_dtype.itemsize


@attrs.frozen(kw_only=True)
class InForce:
    """The components that a layer is quantized with."""

    scheme: Component
    observer: Component


def labelled(then: Iterable[Override]) -> dict[str, Override]:
    """Overrides by what they are called in a path: the names of their components, with a number where these repeat."""
    named: dict[str, Override] = {}
    for override in then:
        parts = [override.scheme.name] if override.scheme else []
        label = ", ".join([*parts, *([f"observer {override.observer.name}"] if override.observer else [])])
        count = sum(other.partition(" #")[0] == label for other in named)
        named[f"{label} #{count + 1}" if count else label] = override
    return named
