"""The ``absmax`` observer."""

from mono_quant.core.observers import AbsMaxObserver
from mono_quant.plugin_api import ObserverSpec, hookimpl

__all__ = ["mono_quant_observers"]


@hookimpl
def mono_quant_observers() -> list[ObserverSpec]:
    """Announce it."""
    return [
        ObserverSpec(
            name="absmax",
            summary="as far on either side of zero as the largest magnitude seen",
            factory=AbsMaxObserver,
        )
    ]
