"""ONNX Runtime's static quantization, QDQ."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from ..contenders import Built
from ..models import Inputs, Model
from .varying import dynamic_shapes

__all__ = ["build"]


def build(
    model: Model,
    module: nn.Module,
    calibration: list[Inputs],
    *,
    per_channel: bool = False,
    method: str = "MinMax",
    operators: tuple[str, ...] = (),
) -> Built:
    """Exported, optimized (which folds BatchNorm), calibrated, quantized.

    By default as its function does it by default; with ``per_channel`` also with uint8 activations, as is advised for
    x86. ``operators``: the only ones to quantize, all that it can by default.
    """
    told = {"per_channel": True, "activation_type": QuantType.QUInt8} if per_channel else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.onnx.export(
            module,
            calibration[0],
            folder / "float.onnx",
            input_names=list(model.arguments),
            dynamic_shapes=dynamic_shapes(model),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        # The exporter has written shapes; symbolic inference refuses those that vary in a transformer.
        quant_pre_process(folder / "float.onnx", folder / "optimized.onnx", skip_symbolic_shape=True)
        quantize_static(
            folder / "optimized.onnx",
            folder / "int8.onnx",
            _Reader(model, calibration),
            op_types_to_quantize=list(operators) or None,
            calibrate_method=CalibrationMethod[method],
            **told,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(folder / "int8.onnx", options, providers=["CPUExecutionProvider"])

    def call(inputs: Inputs) -> object:
        outputs = tuple(map(torch.from_numpy, session.run(None, _named(model, inputs))))
        return outputs if len(outputs) > 1 else outputs[0]

    return Built(call)


def _named(model: Model, inputs: Inputs) -> dict[str, object]:
    return {name: x.contiguous().numpy() for name, x in zip(model.arguments, inputs, strict=True)}


class _Reader(CalibrationDataReader):
    def __init__(self, model: Model, calibration: list[Inputs]) -> None:
        self._batches: Iterator[dict[str, object]] = (_named(model, inputs) for inputs in calibration)

    def get_next(self) -> dict[str, object] | None:
        return next(self._batches, None)
