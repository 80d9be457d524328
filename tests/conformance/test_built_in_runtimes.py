"""The same for runtimes."""

from mono_quant.plugin_api import Runtime
from mono_quant.runtimes.torch_compile import TorchCompileRuntime
from mono_quant.runtimes.torch_eager import TorchRuntime
from mono_quant.testing import RuntimeSuite
from mono_quant.testing.adversarial import GEOMETRIES


class TestTorch(RuntimeSuite):
    def make(self) -> Runtime:
        return TorchRuntime()


class TestTorchCompile(RuntimeSuite):
    geometries = (GEOMETRIES[4], GEOMETRIES[18])

    def make(self) -> Runtime:
        return TorchCompileRuntime()

    def models(self):
        kept = ("convolutions", "sequences", "sequences, per token", "sequences, int4 weights")
        return {name: made for name, made in super().models().items() if name in kept}
