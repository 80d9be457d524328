"""ONNX Runtime, dynamic int8, weights per channel."""

from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from ..setting import Setting
from ..workloads import Inputs
from .onnx_file import export, run_by_onnxruntime, scratch
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, calibration: list[Inputs], setting: Setting) -> Built:
    """Exported, optimized, quantized."""
    folder = scratch()
    exported = export(model, calibration[0], folder / "float.onnx")
    quant_pre_process(exported, folder / "optimized.onnx")
    quantize_dynamic(folder / "optimized.onnx", folder / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
    return run_by_onnxruntime(folder / "int8.onnx", setting)
