"""ONNX Runtime, static int8: QDQ, weights per channel, min-max ranges."""

from collections.abc import Iterator

from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from ..setting import Setting
from ..workloads import Inputs
from .onnx_file import arrays, export, run_by_onnxruntime, scratch
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, calibration: list[Inputs], setting: Setting) -> Built:
    """Exported, optimized (which folds BatchNorm), calibrated, quantized."""
    folder = scratch()
    exported = export(model, calibration[0], folder / "float.onnx")
    quant_pre_process(exported, folder / "optimized.onnx")
    quantize_static(
        folder / "optimized.onnx",
        folder / "int8.onnx",
        _Reader(calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return run_by_onnxruntime(folder / "int8.onnx", setting)


class _Reader(CalibrationDataReader):
    def __init__(self, calibration: list[Inputs]) -> None:
        self._arrays: Iterator[dict[str, object]] = map(arrays, calibration)

    def get_next(self) -> dict[str, object] | None:
        return next(self._arrays, None)
