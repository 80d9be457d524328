"""The ``percentile`` observer."""

from mono_quant.core.observers import PercentileObserver
from mono_quant.plugin_api import ObserverSpec, hookimpl

__all__ = ["mono_quant_observers"]


@hookimpl
def mono_quant_observers() -> list[ObserverSpec]:
    """Announce it."""
    return [
        ObserverSpec(
            name="percentile",
            summary="all but the outermost values",
            factory=PercentileObserver,
        )
    ]
