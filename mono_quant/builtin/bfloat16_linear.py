"""The ``bfloat16-linear`` kernel."""

from mono_quant.kernels.bfloat16 import BFloat16Kernel
from mono_quant.plugin_api import KernelSpec, hookimpl

__all__ = ["mono_quant_kernels"]


@hookimpl
def mono_quant_kernels() -> list[KernelSpec]:
    """Announce it."""
    return [
        KernelSpec(
            name="bfloat16-linear",
            summary="bfloat16 Linear of quantized weights, made bfloat16 once and kept within a budget",
            factory=BFloat16Kernel,
        )
    ]
