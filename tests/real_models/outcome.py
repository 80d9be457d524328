"""What any quantized model can be asked: how near its output is, and how small it is."""

import tempfile
from pathlib import Path

import torch
from torch import nn

from mono_quant import save_model
from mono_quant.core.sqnr import sum_sqnr_db
from mono_quant.core.tensors import iter_tensors

from .record import ModelInput, run

__all__ = ["file_mb", "output_sqnr_db"]


def output_sqnr_db(model: nn.Module, quantized: nn.Module, batch: ModelInput) -> float:
    """SQNR in dB of all tensors in the output."""
    with torch.no_grad():
        outputs = [list(iter_tensors(run(one, batch))) for one in (model, quantized)]
    return sum_sqnr_db(zip(*outputs, strict=True))


def file_mb(model: nn.Module) -> float:
    """MB of 2^20 bytes of the ``.safetensors`` file that a model is saved in."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(model, path)
        return path.stat().st_size / 2**20
