"""The ``smoothquant`` algorithm."""

from mono_quant.core.smoothing import SmoothQuant
from mono_quant.plugin_api import AlgorithmSpec, hookimpl

__all__ = ["mono_quant_algorithms"]


@hookimpl
def mono_quant_algorithms() -> list[AlgorithmSpec]:
    """Announce it."""
    return [
        AlgorithmSpec(
            name="smoothquant",
            summary="moves outliers of activations into the weights that read them",
            factory=SmoothQuant,
        )
    ]
