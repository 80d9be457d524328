"""NNCF on OpenVINO's form of a model, run by OpenVINO."""

import nncf
import openvino
import torch
from torch import nn

from ..contenders import Built
from ..models import Inputs, Model

__all__ = ["build"]


def build(
    model: Model, module: nn.Module, calibration: list[Inputs], *, is_best: bool = False, is_told: bool = False
) -> Built:
    """Converted, calibrated, quantized, compiled; what is not quantized stays float32.

    Args:
        model: what it is.
        module: the float model.
        calibration: batches.
        is_best: whether to use the settings that its documentation gives for accuracy.
        is_told: whether to say that it is a transformer, where it is one.
    """
    told = {"model_type": nncf.ModelType.TRANSFORMER} if model.is_transformer and (is_best or is_told) else {}
    if is_best:
        told |= {"preset": nncf.QuantizationPreset.MIXED, "fast_bias_correction": False}
    shapes = [[-1 if axis in model.varying else length for axis, length in enumerate(x.shape)] for x in calibration[0]]
    quantized = nncf.quantize(
        openvino.convert_model(module, example_input=calibration[0], input=shapes),
        nncf.Dataset(calibration, lambda inputs: [x.numpy() for x in inputs]),
        subset_size=len(calibration),
        **told,
    )
    compiled = openvino.compile_model(
        quantized, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    )

    def call(inputs: Inputs) -> object:
        results = compiled([x.contiguous().numpy() for x in inputs])
        outputs = tuple(torch.from_numpy(results[i].copy()) for i in range(len(compiled.outputs)))
        return outputs if len(outputs) > 1 else outputs[0]

    return Built(call)
