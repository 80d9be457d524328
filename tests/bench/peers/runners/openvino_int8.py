"""OpenVINO, static int8 by NNCF."""

import nncf
from torch import nn

from ..setting import Setting
from ..workloads import Inputs
from .openvino_model import converted, run_by_openvino
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, calibration: list[Inputs], setting: Setting, *, is_transformer: bool = False) -> Built:
    """Converted, calibrated, quantized; NNCF is told of a transformer, for which it smooths activations."""
    quantized = nncf.quantize(
        converted(model, calibration[0]),
        nncf.Dataset(calibration, lambda inputs: [tensor.numpy() for tensor in inputs]),
        subset_size=len(calibration),
        model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
    )
    return run_by_openvino(quantized, setting)
