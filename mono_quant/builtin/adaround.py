"""The ``adaround`` algorithm."""

from mono_quant.core.adaround import AdaRound
from mono_quant.plugin_api import AlgorithmSpec, hookimpl

__all__ = ["mono_quant_algorithms"]


@hookimpl
def mono_quant_algorithms() -> list[AlgorithmSpec]:
    """Announce it."""
    return [
        AlgorithmSpec(
            name="adaround",
            summary="rounds each weight up or down, for the least error on calibration data",
            factory=AdaRound,
        )
    ]
