"""The ``fbgemm`` kernel."""

from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.plugin_api import KernelSpec, hookimpl

__all__ = ["mono_quant_kernels"]


@hookimpl
def mono_quant_kernels() -> list[KernelSpec]:
    """Announce it."""
    return [
        KernelSpec(
            name="fbgemm",
            summary="Linear on x86, fastest at few rows",
            factory=FbgemmKernel,
        )
    ]
