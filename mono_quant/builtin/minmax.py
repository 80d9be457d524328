"""The ``minmax`` observer."""

from mono_quant.core.observers import MinMaxObserver
from mono_quant.plugin_api import ObserverSpec, hookimpl

__all__ = ["mono_quant_observers"]


@hookimpl
def mono_quant_observers() -> list[ObserverSpec]:
    """Announce it."""
    return [
        ObserverSpec(
            name="minmax",
            summary="smallest and largest value seen",
            factory=MinMaxObserver,
        )
    ]
