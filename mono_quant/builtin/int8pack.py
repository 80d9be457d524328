"""The ``int8pack`` kernel."""

from mono_quant.kernels.bfloat16 import Int8PackKernel
from mono_quant.plugin_api import KernelSpec, hookimpl

__all__ = ["mono_quant_kernels"]


@hookimpl
def mono_quant_kernels() -> list[KernelSpec]:
    """Announce it."""
    return [
        KernelSpec(
            name="int8pack",
            summary="bfloat16 Linear that reads int8 weights as they are stored",
            factory=Int8PackKernel,
        )
    ]
