"""The ``int4pack`` kernel."""

from mono_quant.kernels.bfloat16 import Int4PackKernel
from mono_quant.plugin_api import KernelSpec, hookimpl

__all__ = ["mono_quant_kernels"]


@hookimpl
def mono_quant_kernels() -> list[KernelSpec]:
    """Announce it."""
    return [
        KernelSpec(
            name="int4pack",
            summary="bfloat16 Linear that reads packed int4 weights",
            factory=Int4PackKernel,
        )
    ]
