"""The ``moving-average`` observer."""

from mono_quant.core.observers import MovingAverageObserver
from mono_quant.plugin_api import ObserverSpec, hookimpl

__all__ = ["mono_quant_observers"]


@hookimpl
def mono_quant_observers() -> list[ObserverSpec]:
    """Announce it."""
    return [
        ObserverSpec(
            name="moving-average",
            summary="smallest and largest value of a batch, averaged over the batches",
            factory=MovingAverageObserver,
        )
    ]
