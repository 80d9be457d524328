"""The ``bias-correction`` algorithm."""

from mono_quant.core.bias import BiasCorrection
from mono_quant.plugin_api import AlgorithmSpec, hookimpl

__all__ = ["mono_quant_algorithms"]


@hookimpl
def mono_quant_algorithms() -> list[AlgorithmSpec]:
    """Announce it."""
    return [
        AlgorithmSpec(
            name="bias-correction",
            summary="adds to biases what quantization takes from the mean of each output channel",
            factory=BiasCorrection,
        )
    ]
