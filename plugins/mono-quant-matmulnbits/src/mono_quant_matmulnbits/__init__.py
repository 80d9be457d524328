"""The ``matmulnbits`` kernel: linear layers in float32, computed from packed 4-bit weights by ONNX Runtime."""

from mono_quant import hookimpl
from mono_quant.plugin_api import KernelSpec

from mono_quant_matmulnbits.kernel import MatMulNBitsKernel

__all__ = ["MatMulNBitsKernel", "mono_quant_kernels"]


@hookimpl
def mono_quant_kernels() -> list[KernelSpec]:
    """Announce it."""
    summary = "float32 Linear that reads packed int2 to int4 weights; ONNX Runtime"
    return [KernelSpec(name="matmulnbits", summary=summary, factory=MatMulNBitsKernel)]
