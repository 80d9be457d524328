"""A model as an ONNX file, and ONNX Runtime to run it."""

import shutil
import tempfile
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from ..setting import Setting
from ..workloads import Inputs
from .record import Built

__all__ = ["arrays", "export", "run_by_onnxruntime", "scratch"]


def scratch() -> Path:
    """An empty folder, inside the one that the driver removes after the measurement."""
    return Path(tempfile.mkdtemp())


def export(model: nn.Module, example: Inputs, path: Path) -> Path:
    """Write a file for inputs of the example's shape, which are named ``x0``, ``x1`` and so on."""
    torch.onnx.export(
        model, example, path, input_names=[f"x{i}" for i in range(len(example))], dynamo=True, verbose=False
    )
    return path


def arrays(inputs: Inputs) -> dict[str, object]:
    """The inputs by name, sharing their memory."""
    return {f"x{i}": tensor.numpy() for i, tensor in enumerate(inputs)}


def run_by_onnxruntime(path: Path, setting: Setting) -> Built:
    """A session with the default optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def call(inputs: Inputs) -> Tensor:
        return torch.from_numpy(session.run(None, arrays(inputs))[0])

    def save(folder: Path) -> None:
        for file in path.parent.glob(f"{path.name}*"):  # large weights stand in a file beside it
            shutil.copy(file, folder)

    return Built(call, save)
