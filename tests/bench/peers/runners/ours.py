"""mono_quant: a scheme, eager or under ``torch.compile``."""

from collections import Counter

import torch
from torch import Tensor, nn

from mono_quant import Quantizer, save_model
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import Batch

from ..setting import Setting
from ..workloads import Inputs
from .record import Built

__all__ = ["build"]


def build(
    model: nn.Module, calibration: list[Inputs], _setting: Setting, *, scheme: str, is_compiled: bool = False
) -> Built:
    """Quantized without the checks that compare it with float."""
    quantizer = Quantizer(scheme, validators=(), show_progress=False)
    quantized = quantizer.quantize(model, [Batch(args=inputs) for inputs in calibration]).model
    run = torch.compile(quantized, dynamic=False) if is_compiled else quantized

    def call(inputs: Inputs) -> Tensor:
        return run(*inputs)

    return Built(call, lambda folder: save_model(quantized, folder / "model.safetensors"), lambda: _kernels(quantized))


def _kernels(model: nn.Module) -> str:
    layers = [module for module in model.modules() if isinstance(module, QuantizedModule)]
    counts = Counter(name for layer in layers for name in layer.kernels_in_use)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
