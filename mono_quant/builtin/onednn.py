"""The ``onednn`` kernel."""

from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.plugin_api import KernelSpec, hookimpl

__all__ = ["mono_quant_kernels"]


@hookimpl
def mono_quant_kernels() -> list[KernelSpec]:
    """Announce it."""
    return [
        KernelSpec(
            name="onednn",
            summary="Linear and convolutions on the CPU, on plain tensors",
            factory=OnednnKernel,
        )
    ]
