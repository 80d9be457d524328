"""Which layers of a model a configuration names."""

import math
from collections import defaultdict

from torch import nn

from mono_quant.config import QuantizationConfig
from mono_quant.core.selection import first_match, refuse_unmatched
from mono_quant.plugin_api import LayerPlan

__all__ = ["LayerSelection"]


class LayerSelection:
    """The patterns of a run, for the layers of one model.

    Args:
        config: the run.
        model: is only looked at.

    Raises:
        ConfigurationError: when a pattern matches no layer.
    """

    def __init__(self, config: QuantizationConfig, model: nn.Module) -> None:
        refuse_unmatched(model, [*config.include, *config.exclude, *config.overrides])
        self._config = config
        self._names = defaultdict(list)
        for name, module in model.named_modules(remove_duplicate=False):
            self._names[module].append(name)

    def names(self, module: nn.Module) -> list[str]:
        """All names of a layer: one that stands in several places has several."""
        return self._names[module]

    def why_kept(self, module: nn.Module) -> str:
        """Why a layer stays in float whatever its scheme says; empty when nothing speaks against it."""
        config, names = self._config, self._names[module]
        if config.include and first_match(config.include, names, module) is None:
            return "no include pattern names it"
        if (pattern := first_match(config.exclude, names, module)) is not None:
            return f"excluded by {pattern!r}"
        pattern = first_match(config.overrides, names, module)
        if pattern is not None and config.overrides[pattern] is None:
            return f"overridden by {pattern!r}"
        return ""

    def why_too_small(self, decision: LayerPlan) -> str:
        """Why a layer that a scheme would quantize is too small for it; empty when it is not."""
        weights, least = sum(math.prod(spec.shape) for spec in decision.weights.values()), self._config.min_parameters
        return f"it has {weights} weights, fewer than min_parameters={least}" if weights < least else ""
