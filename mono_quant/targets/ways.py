"""The ways that a layer can be quantized in besides the run's own."""

from collections.abc import Iterable, Mapping

from torch import nn

from mono_quant.config import Component, Override
from mono_quant.errors import ConfigurationError, UnsupportedLayerError
from mono_quant.plugin_api import LayerPlan, Scheme

__all__ = ["as_overrides", "other_ways"]


def other_ways(name: str, layer: nn.Module, schemes: Iterable[tuple[str, Scheme]]) -> dict[str, nn.Module]:
    """The layer by each scheme that can quantize it: name of the scheme → quantized layer.

    Args:
        name: of the layer.
        layer: the float layer.
        schemes: by registry name.

    Raises:
        ConfigurationError: when one of them needs data.
    """
    ways: dict[str, nn.Module] = {}
    for scheme_name, scheme in schemes:
        try:
            plan = scheme.plan(name, layer)
        except UnsupportedLayerError:  # its weights do not come in groups of that size
            continue
        if not isinstance(plan, LayerPlan):
            continue
        if plan.needs_data:
            raise ConfigurationError(f"a target turns to schemes that need no data, and {scheme_name} does")
        ways[scheme_name] = scheme.convert(layer, plan, {})
    return ways


def as_overrides(changed: Mapping[str, str], schemes: Iterable[Component]) -> dict[str, Override | None]:
    """The overrides of a configuration that say the same: exact names of layers, not globs.

    Args:
        changed: layer → name of one of the schemes, or ``"float"``.
        schemes: with their options.
    """
    by_name = {scheme.name: Override(scheme=scheme) for scheme in schemes}
    return {_exactly(name): by_name.get(way) for name, way in changed.items()}


def _exactly(name: str) -> str:
    """A pattern that names this layer alone."""
    return "".join(f"[{letter}]" if letter in "[*?" else letter for letter in name)
