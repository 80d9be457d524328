"""OpenVINO, not quantized: how much of its lead is not quantization."""

from torch import nn

from ..setting import Setting
from ..workloads import Inputs
from .openvino_model import converted, run_by_openvino
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, calibration: list[Inputs], setting: Setting) -> Built:
    """Converted."""
    return run_by_openvino(converted(model, calibration[0]), setting)
