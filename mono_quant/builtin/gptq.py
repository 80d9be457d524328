"""The ``gptq`` algorithm."""

from mono_quant.core.gptq import GPTQ
from mono_quant.plugin_api import AlgorithmSpec, hookimpl

__all__ = ["mono_quant_algorithms"]


@hookimpl
def mono_quant_algorithms() -> list[AlgorithmSpec]:
    """Announce it."""
    return [
        AlgorithmSpec(
            name="gptq",
            summary="chooses the codes of weights for the least error on calibration data",
            factory=GPTQ,
        )
    ]
