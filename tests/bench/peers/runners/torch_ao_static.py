"""torch.ao's FX mode, static int8, its ``x86`` backend: traced, BatchNorm and ReLU fused. It is deprecated."""

import copy
import warnings

import torch
from torch import Tensor, nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from ..setting import Setting
from ..workloads import Inputs
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, calibration: list[Inputs], _setting: Setting) -> Built:
    """Prepared, calibrated, converted."""
    torch.backends.quantized.engine = "x86"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping("x86"), calibration[0])
        for inputs in calibration:
            prepared(*inputs)
        quantized = convert_fx(prepared)

    def call(inputs: Inputs) -> Tensor:
        return quantized(*inputs)

    return Built(call, lambda folder: torch.save(quantized.state_dict(), folder / "model.pt"))
