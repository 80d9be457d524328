"""The ``mse`` observer."""

from mono_quant.core.observers import MSEObserver
from mono_quant.plugin_api import ObserverSpec, hookimpl

__all__ = ["mono_quant_observers"]


@hookimpl
def mono_quant_observers() -> list[ObserverSpec]:
    """Announce it."""
    return [
        ObserverSpec(
            name="mse",
            summary="the range, shrunk step by step, whose rounding and clipping errors are least",
            factory=MSEObserver,
        )
    ]
