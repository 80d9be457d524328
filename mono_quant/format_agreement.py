"""What a format can hold, agreed on before any work: which layers it refuses, and what becomes of them."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from torch import nn

from mono_quant._plugins.components import Components
from mono_quant.config import KEEP, Override, QuantizationConfig
from mono_quant.core.plan import refuse_empty
from mono_quant.core.selection import exactly
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api import Keep, Plan

__all__ = ["agreed", "agreed_without_model", "names_a_scheme", "with_storable_schemes"]

_MOST_SHOWN = 10


def names_a_scheme(config: QuantizationConfig) -> bool:
    """Whether there is a format, and a scheme for the layers that it refuses."""
    return config.format is not None and config.on_refusal.name not in {"error", KEEP}


def agreed(plan: Plan, components: Components, settle: Callable[[Plan], Plan] = lambda plan: plan) -> Plan:
    """The plan of what the configuration's format holds: as it is, or with the refused layers in float.

    Args:
        plan: of a model or a checkpoint.
        components: of the configuration; without a format in it, all can be held.
        settle: gives the plan without the layers that cannot be quantized since others are not.

    Raises:
        ConfigurationError: naming the layers, when it refuses some and they are not to be kept.
    """
    wanted = components.config.format
    while wanted is not None and (refused := _refused(plan, components)):
        name = wanted.name
        if components.config.on_refusal.name != KEEP:
            raise ConfigurationError(_told(name, refused, len(plan.layers)))
        plan = settle(plan.decide({layer: Keep(f"{name} cannot hold it: {why}") for layer, why in refused.items()}))
    return plan


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
    plan = agreed(plan, components)
    refuse_empty(plan)
    return plan


def with_storable_schemes(plan: Plan, components: Components, model: nn.Module) -> QuantizationConfig:
    """The configuration in which the layers that its format refuses have the scheme that ``on_refusal`` names."""
    config, modules = components.config, dict(model.named_modules())
    also = {entry.name: entry.also for entry in plan.entries}
    overrides: dict[Any, Any] = {
        exactly(name): Override(
            scheme=config.on_refusal,
            observer=components.observer_component(name, modules[name], also=also[name]),
        )
        for name in _refused(plan, components)
    }
    overrides |= {pattern: one for pattern, one in config.overrides.items() if pattern not in overrides}
    return attrs.evolve(config, overrides=overrides, on_refusal="error")


def _refused(plan: Plan, components: Components) -> dict[str, str]:
    chosen, layers = components.wanted_format, plan.layers
    return {} if chosen is None else {name: why for name, why in chosen.refusals(layers).items() if name in layers}


def _told(format_name: str, refused: Mapping[str, str], count: int) -> str:
    shown = [f"{name or '(model)'}: {why}" for name, why in list(refused.items())[:_MOST_SHOWN]]
    more = [f"and {len(refused) - _MOST_SHOWN} more"] if len(refused) > _MOST_SHOWN else []
    head = (
        f"format {format_name!r} cannot hold {len(refused)} of {count} layers as they are planned; on_refusal='keep' "
        "keeps them in float, and the name of a scheme quantizes them by that"
    )
    return "\n  ".join([head, *shown, *more])
