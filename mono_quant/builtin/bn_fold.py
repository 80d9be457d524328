"""The ``bn-fold`` algorithm."""

from mono_quant.core.batchnorm import BatchNormFold
from mono_quant.plugin_api import AlgorithmSpec, hookimpl

__all__ = ["mono_quant_algorithms"]


@hookimpl
def mono_quant_algorithms() -> list[AlgorithmSpec]:
    """Announce it."""
    return [
        AlgorithmSpec(
            name="bn-fold",
            summary="folds a BatchNorm into the convolution before it",
            factory=BatchNormFold,
        )
    ]
