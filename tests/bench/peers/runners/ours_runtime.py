"""mono_quant: a scheme, by a runtime of mono-quant-onnx."""

from typing import Any

from torch import nn

from mono_quant import Quantizer
from mono_quant.plugin_api import Batch

from ..setting import Setting
from ..workloads import Inputs
from .ours import built, quantized
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, calibration: list[Inputs], setting: Setting, *, runtime: str, **told: Any) -> Built:  # noqa: ANN401
    """Quantized, exported, compared with the reference kernels, compiled for one shape.

    Limited to AVX2, OpenVINO has to be told float32, see `run_by_openvino`.
    """
    ours = quantized(model, calibration, **told)
    is_told = runtime == "openvino" and setting.is_limited
    wanted = {"name": runtime, "precision": "f32"} if is_told else runtime
    compiled = Quantizer().compile(ours, Batch(args=calibration[0]), runtime=wanted)
    run = built(ours, compiled)
    return Built(run.call, run.save, lambda: compiled.details)
