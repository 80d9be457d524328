"""The ``reference`` kernel."""

from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api import KernelSpec, hookimpl

__all__ = ["mono_quant_kernels"]


@hookimpl
def mono_quant_kernels() -> list[KernelSpec]:
    """Announce it."""
    return [
        KernelSpec(
            name="reference",
            summary="exact integer sums, the definition",
            factory=ReferenceKernel,
        )
    ]
