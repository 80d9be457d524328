"""mono_quant: a scheme, eager."""

from collections import Counter
from typing import Any

from torch import Tensor, nn

from mono_quant import Quantizer, save_model
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import Batch

from ..setting import Setting
from ..workloads import Inputs
from .record import Built

__all__ = ["build", "built", "quantized"]


def build(model: nn.Module, calibration: list[Inputs], _setting: Setting, **told: Any) -> Built:  # noqa: ANN401
    """Quantized; ``told`` are options of `Quantizer`, as ``scheme``."""
    ours = quantized(model, calibration, **told)
    return built(ours, ours)


def quantized(model: nn.Module, calibration: list[Inputs], **told: Any) -> nn.Module:  # noqa: ANN401
    """Without the checks that compare it with float."""
    quantizer = Quantizer(**told, validators=(), show_progress=False)
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
