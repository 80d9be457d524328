"""What a format can hold, agreed on before any work: which layers it refuses, and what becomes of them.

It is asked once more where algorithms have rewritten layers, before anything is quantized.
"""

from collections.abc import Callable, Mapping

import attrs
from torch import nn

from mono_quant._plugins.components import Components
from mono_quant._plugins.formats import refusals_of
from mono_quant.config import KEEP, Override, QuantizationConfig, with_first
from mono_quant.core.checkpoint_plan import layer_and_parameter, without_half_tied
from mono_quant.core.plan import refuse_empty, settle, without_idle_rewrites
from mono_quant.core.selection import exactly
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api import Keep, Plan
from mono_quant.rewriting import decision_as_rewritten, float_layer
from mono_quant.run import Run

__all__ = [
    "agreed",
    "agreed_as_rewritten",
    "agreed_without_model",
    "names_a_scheme",
    "refused",
    "with_storable_schemes",
]

_MOST_SHOWN = 10


def names_a_scheme(config: QuantizationConfig) -> bool:
    """Whether there is a format, and a scheme for the layers that it refuses."""
    return config.format is not None and config.on_refusal.name not in {"error", KEEP}


def agreed(
    plan: Plan,
    components: Components,
    settled: Callable[[Plan], Plan],
    *,
    is_rewritten: bool = False,
) -> Plan:
    """The plan of what the configuration's format holds: as it is, or with the refused layers in float.

    Args:
        plan: of a model or a checkpoint.
        components: of the configuration; without a format in it, all can be held.
        settled: gives the plan without the layers that cannot be quantized since others are not.
        is_rewritten: whether algorithms have been at work, for the message.

    Raises:
        ConfigurationError: naming the layers, when it refuses some and they are not to be kept.
    """
    wanted = components.config.format
    while wanted is not None and (reasons := refused(plan, components)):
        name = wanted.name
        if components.config.on_refusal.name != KEEP:
            raise ConfigurationError(_told(name, reasons, len(plan.layers), is_rewritten=is_rewritten))
        plan = settled(plan.decide({layer: Keep(f"{name} cannot hold it: {why}") for layer, why in reasons.items()}))
    return plan


def agreed_as_rewritten(run: Run, components: Components, model: nn.Module) -> Run:
    """`agreed` for what the data and the algorithms have made of the plan.

    Raises:
        ConfigurationError: as `agreed`; or when nothing is left to be quantized.
    """
    if components.config.format is None:
        return run
    modules = dict(model.named_modules())
    also = {entry.name: entry.also for entry in run.plan.entries}
    rewritten = {name for rewrite in run.plan.rewrites for name in rewrite.layers} & set(run.plan.layers)
    decisions = {
        name: decision_as_rewritten(
            components.scheme_for(name, modules[name], also=also[name]),
            name,
            float_layer(components, modules, run.plan, name),
        )
        for name in sorted(rewritten)
    }
    plan = agreed(run.plan.decide(decisions), components, lambda plan: settle(model, plan), is_rewritten=True)
    refuse_empty(plan)
    plan = without_idle_rewrites(plan, run.plan.layers.keys() - plan.layers.keys())
    observers = {name: observer for name, observer in run.observers.items() if name in plan.layers}
    return attrs.evolve(run, plan=plan, observers=observers)


def agreed_without_model(plan: Plan, components: Components) -> Plan:
    """`agreed` for a checkpoint.

    Raises:
        ConfigurationError: as `agreed`; when ``on_refusal`` names a scheme; or when nothing is left to be quantized.
    """
    if names_a_scheme(components.config):
        raise ConfigurationError(
            f"on_refusal={components.config.on_refusal.name!r} needs the model: of a checkpoint, layers that a format "
            "refuses can be kept in float, by 'keep'"
        )
    plan = agreed(plan, components, without_half_tied)
    refuse_empty(plan)
    return plan


def with_storable_schemes(plan: Plan, components: Components, model: nn.Module) -> QuantizationConfig:
    """The configuration in which the layers that its format refuses have the scheme that ``on_refusal`` names."""
    config, modules = components.config, dict(model.named_modules())
    also = {entry.name: entry.also for entry in plan.entries}
    overrides = {
        exactly(name): Override(
            scheme=config.on_refusal,
            observer=components.observer_component(name, modules[name], also=also[name]),
        )
        for name in refused(plan, components)
    }
    return attrs.evolve(with_first(config, overrides), on_refusal="error")


def refused(plan: Plan, components: Components) -> dict[str, str]:
    """The layers that the configuration's format refuses → why; none without a format."""
    chosen, layers = components.wanted_format, plan.layers
    if chosen is None:
        return {}
    return refusals_of(chosen, layers, _kept(plan))


def _kept(plan: Plan) -> set[str]:
    """The layers in float; entries without a type are tensors of a checkpoint, or what was a layer of one."""
    tensors = {entry.name for entry in plan.entries if not entry.layer_type} & set(plan.kept)
    return {*plan.kept, *(layer_and_parameter(name)[0] for name in tensors)} - set(plan.layers)


def _told(format_name: str, reasons: Mapping[str, str], count: int, *, is_rewritten: bool) -> str:
    shown = [f"{name or '(model)'}: {why}" for name, why in list(reasons.items())[:_MOST_SHOWN]]
    more = [f"and {len(reasons) - _MOST_SHOWN} more"] if len(reasons) > _MOST_SHOWN else []
    how = "the algorithms have left them" if is_rewritten else "they are planned"
    otherwise = "" if is_rewritten else ", and the name of a scheme quantizes them by that"
    head = (
        f"format {format_name!r} cannot hold {len(reasons)} of {count} layers as {how}; on_refusal='keep' keeps them "
        f"in float{otherwise}"
    )
    return "\n  ".join([head, *shown, *more])
