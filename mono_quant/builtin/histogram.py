"""The ``histogram`` observer."""

from mono_quant.core.observers import HistogramObserver
from mono_quant.plugin_api import ObserverSpec, hookimpl

__all__ = ["mono_quant_observers"]


@hookimpl
def mono_quant_observers() -> list[ObserverSpec]:
    """Announce it."""
    return [
        ObserverSpec(
            name="histogram",
            summary="the range that a histogram shows to be best, by squared error or by entropy",
            factory=HistogramObserver,
        )
    ]
