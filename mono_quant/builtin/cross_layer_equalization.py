"""The ``cross-layer-equalization`` algorithm."""

from mono_quant.core.equalization import CrossLayerEqualization
from mono_quant.plugin_api import AlgorithmSpec, hookimpl

__all__ = ["mono_quant_algorithms"]


@hookimpl
def mono_quant_algorithms() -> list[AlgorithmSpec]:
    """Announce it."""
    return [
        AlgorithmSpec(
            name="cross-layer-equalization",
            summary="makes the channels between layers alike by scaling the weights on either side",
            factory=CrossLayerEqualization,
        )
    ]
