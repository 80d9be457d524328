"""A model in OpenVINO's form, and its CPU plugin to run it."""

from pathlib import Path

import openvino
import torch
from torch import Tensor, nn

from ..setting import Setting
from ..workloads import Inputs
from .record import Built

__all__ = ["converted", "run_by_openvino"]


def converted(model: nn.Module, example: Inputs) -> openvino.Model:
    """Traced, for inputs of the example's shape."""
    return openvino.convert_model(model, example_input=example, input=[list(tensor.shape) for tensor in example])


def run_by_openvino(model: openvino.Model, setting: Setting) -> Built:
    """Compiled for latency, in the precision that it chooses itself: bfloat16 where the CPU has it.

    Limited to AVX2 it has to be told float32: its choice looks at the CPU alone, for which oneDNN then has no kernel.
    """
    config: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": setting.threads}
    if setting.is_limited:
        config["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.compile_model(model, "CPU", config)
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def call(inputs: Inputs) -> Tensor:
        return torch.from_numpy(compiled([tensor.numpy() for tensor in inputs])[0])

    def save(folder: Path) -> None:
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)

    return Built(call, save, lambda: f"floats as {precision}")
