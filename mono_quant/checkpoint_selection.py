"""Which layers of a checkpoint a configuration names."""

from collections.abc import Iterable

from torch import nn

from mono_quant.config import QuantizationConfig
from mono_quant.core.selection import matches
from mono_quant.errors import ConfigurationError

__all__ = ["TensorSelection"]

_NO_MODULE = nn.Module()


class TensorSelection:
    """The patterns of a run, for layers of which only the names are known.

    Args:
        config: the run.

    Attributes:
        unused: the patterns that have named no layer so far.

    Raises:
        ConfigurationError: when a pattern is of a class.
    """

    def __init__(self, config: QuantizationConfig) -> None:
        self._config = config
        self.unused = dict.fromkeys((*config.include, *config.exclude, *config.overrides))
        if by_class := [pattern for pattern in self.unused if pattern.startswith("type:")]:
            raise ConfigurationError(f"patterns {by_class} are of layer types, which only a model has: give names")

    def why_kept(self, layer: str, weights: int) -> str:
        """Why a layer with so many weights stays in float; empty when nothing speaks against it."""
        config = self._config
        included, excluded = self._first(config.include, layer), self._first(config.exclude, layer)
        override = self._first(config.overrides, layer)
        if config.include and included is None:
            return "no include pattern names it"
        if excluded is not None:
            return f"excluded by {excluded!r}"
        if override is not None and config.overrides[override] is None:
            return f"overridden by {override!r}"
        if weights < config.min_parameters:
            return f"its layer has {weights} weights, fewer than min_parameters={config.min_parameters}"
        return ""

    def _first(self, patterns: Iterable[str], layer: str) -> str | None:
        named = [pattern for pattern in patterns if matches(pattern, layer, _NO_MODULE)]
        for pattern in named:
            self.unused.pop(pattern, None)
        return named[0] if named else None
