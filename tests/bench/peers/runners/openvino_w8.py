"""OpenVINO, weights alone in int8, by NNCF."""

import nncf
from torch import nn

from ..setting import Setting
from ..workloads import Inputs
from .openvino_model import converted, run_by_openvino
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, calibration: list[Inputs], setting: Setting) -> Built:
    """Converted, its weights compressed."""
    model = nncf.compress_weights(converted(model, calibration[0]), mode=nncf.CompressWeightsMode.INT8_SYM)
    return run_by_openvino(model, setting)
