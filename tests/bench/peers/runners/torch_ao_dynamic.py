"""torch.ao's dynamic int8 of Linear layers. It is deprecated."""

import warnings

import torch
from torch import Tensor, nn
from torch.ao.quantization import quantize_dynamic

from ..setting import Setting
from ..workloads import Inputs
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, _calibration: list[Inputs], _setting: Setting) -> Built:
    """As ``quantize_dynamic`` does it by default."""
    torch.backends.quantized.engine = "x86"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)

    def call(inputs: Inputs) -> Tensor:
        return quantized(*inputs)

    return Built(call, lambda folder: torch.save(quantized.state_dict(), folder / "model.pt"))
