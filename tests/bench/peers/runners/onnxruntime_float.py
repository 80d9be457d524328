"""ONNX Runtime, float32: how much of its lead is not quantization."""

from torch import nn

from ..setting import Setting
from ..workloads import Inputs
from .onnx_file import export, run_by_onnxruntime, scratch
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, calibration: list[Inputs], setting: Setting) -> Built:
    """Exported."""
    return run_by_onnxruntime(export(model, calibration[0], scratch() / "model.onnx"), setting)
