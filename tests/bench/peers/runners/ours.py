"""mono_quant: a scheme, eager."""

from collections import Counter

from torch import Tensor, nn

from mono_quant import Quantizer, save_model
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import Batch

from ..setting import Setting
from ..workloads import Inputs
from .record import Built

__all__ = ["build", "built", "quantized"]


def build(model: nn.Module, calibration: list[Inputs], _setting: Setting, *, scheme: str) -> Built:
    """Quantized."""
    ours = quantized(model, calibration, scheme)
    return built(ours, ours)


def quantized(model: nn.Module, calibration: list[Inputs], scheme: str) -> nn.Module:
    """Without the checks that compare it with float."""
    quantizer = Quantizer(scheme, validators=(), show_progress=False)
    return quantizer.quantize(model, [Batch(args=inputs) for inputs in calibration]).model


def built(ours: nn.Module, run: nn.Module) -> Built:
    """A quantized model, run as it is or compiled."""

    def call(inputs: Inputs) -> Tensor:
        return run(*inputs)

    return Built(call, lambda folder: save_model(ours, folder / "model.safetensors"), lambda: _kernels(ours))


def _kernels(model: nn.Module) -> str:
    layers = [module for module in model.modules() if isinstance(module, QuantizedModule)]
    counts = Counter(name for layer in layers for name in layer.kernels_in_use)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
