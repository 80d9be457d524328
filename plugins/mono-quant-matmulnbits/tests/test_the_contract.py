"""What every kernel promises, on all weights of few bits."""

from mono_quant.testing import KernelSuite

from mono_quant_matmulnbits import MatMulNBitsKernel


class TestMatMulNBits(KernelSuite):
    kinds = ("weight-only-linear",)
    storages = ("int4", "int4-asymmetric")

    def make(self) -> MatMulNBitsKernel:
        return MatMulNBitsKernel()
