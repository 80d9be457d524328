"""The ``dequantize`` kernel."""

from mono_quant.kernels.dequantize import DequantizeKernel
from mono_quant.plugin_api import KernelSpec, hookimpl

__all__ = ["mono_quant_kernels"]


@hookimpl
def mono_quant_kernels() -> list[KernelSpec]:
    """Announce it."""
    return [
        KernelSpec(
            name="dequantize",
            summary="float32 Linear of quantized weights, made float once and kept within a budget",
            factory=DequantizeKernel,
        )
    ]
