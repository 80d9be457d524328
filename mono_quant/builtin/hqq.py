"""The ``hqq`` algorithm."""

from mono_quant.core.hqq import HQQ
from mono_quant.plugin_api import AlgorithmSpec, hookimpl

__all__ = ["mono_quant_algorithms"]


@hookimpl
def mono_quant_algorithms() -> list[AlgorithmSpec]:
    """Announce it."""
    return [
        AlgorithmSpec(
            name="hqq",
            summary="chooses scales and zero points of weights without data, by half-quadratic splitting",
            factory=HQQ,
        )
    ]
