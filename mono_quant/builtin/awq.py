"""The ``awq`` algorithm."""

from mono_quant.core.awq import AWQ
from mono_quant.plugin_api import AlgorithmSpec, hookimpl

__all__ = ["mono_quant_algorithms"]


@hookimpl
def mono_quant_algorithms() -> list[AlgorithmSpec]:
    """Announce it."""
    return [
        AlgorithmSpec(
            name="awq",
            summary="multiplies weights that meet large inputs, for less error of rounding",
            factory=AWQ,
        )
    ]
