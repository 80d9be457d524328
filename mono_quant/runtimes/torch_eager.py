"""The model itself."""

from collections import Counter

from torch import nn

from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api.runtime import Runtime
from mono_quant.plugin_api.source import Batch

__all__ = ["TorchRuntime"]


class TorchRuntime(Runtime):
    """Torch, eagerly: nothing is traced, and the model that is compiled is the model itself."""

    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        """``model``."""
        del example
        return model

    def details(self, compiled: nn.Module) -> str:
        """The kernels that run its layers, each with how many."""
        layers = (module for module in compiled.modules() if isinstance(module, QuantizedModule))
        kernels = Counter(name for layer in layers for name in layer.kernels_in_use)
        return ", ".join(f"{name} x {count}" for name, count in kernels.most_common())
