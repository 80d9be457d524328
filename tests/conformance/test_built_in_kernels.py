"""The same for kernels."""

from mono_quant.kernels.bfloat16 import BFloat16Kernel, Int4PackKernel, Int8PackKernel
from mono_quant.kernels.dequantize import DequantizeKernel
from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.testing import KernelSuite
from mono_quant.testing.adversarial import WEIGHT_STORAGE


class TestReference(KernelSuite):
    kinds = ("linear", "conv1d", "conv2d", "conv3d", "weight-only-linear")
    storages = tuple(WEIGHT_STORAGE)

    def make(self) -> ReferenceKernel:
        return ReferenceKernel()


class TestFbgemm(KernelSuite):
    kinds = ("linear",)

    def make(self) -> FbgemmKernel:
        return FbgemmKernel()


class TestOnednn(KernelSuite):
    kinds = ("linear", "conv1d", "conv2d", "conv3d")

    def make(self) -> OnednnKernel:
        return OnednnKernel()


class TestDequantize(KernelSuite):
    kinds = ("weight-only-linear",)
    storages = tuple(WEIGHT_STORAGE)

    def make(self) -> DequantizeKernel:
        return DequantizeKernel()


class TestBFloat16(KernelSuite):
    kinds = ("weight-only-linear",)
    storages = ("int8", "int8-asymmetric", "int4", "bfloat16")

    def make(self) -> BFloat16Kernel:
        return BFloat16Kernel()


class TestInt8Pack(KernelSuite):
    kinds = ("weight-only-linear",)

    def make(self) -> Int8PackKernel:
        return Int8PackKernel()


class TestInt4Pack(KernelSuite):
    kinds = ("weight-only-linear",)
    storages = ("int4", "int4-asymmetric")

    def make(self) -> Int4PackKernel:
        return Int4PackKernel()
