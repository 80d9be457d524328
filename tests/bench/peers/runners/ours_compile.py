"""mono_quant: a scheme, under ``torch.compile`` as it comes."""

from typing import Any

import torch
import torch._inductor.compile_fx  # torch.compile would import it within the time of quantization
from torch import nn

from ..setting import Setting
from ..workloads import Inputs
from .ours import built, quantized
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, calibration: list[Inputs], _setting: Setting, **told: Any) -> Built:  # noqa: ANN401
    """Quantized; compiled for one shape, at the first call."""
    ours = quantized(model, calibration, **told)
    return built(ours, torch.compile(ours, dynamic=False))
