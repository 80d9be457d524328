"""``torch.compile`` of the float model, as it comes."""

import torch
import torch._inductor.compile_fx  # torch.compile would import it within the time of quantization
from torch import Tensor, nn

from ..setting import Setting
from ..workloads import Inputs
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, _calibration: list[Inputs], _setting: Setting) -> Built:
    """Compiled for one shape, at the first call."""
    compiled = torch.compile(model, dynamic=False)

    def call(inputs: Inputs) -> Tensor:
        return compiled(*inputs)

    return Built(call, lambda folder: torch.save(model.state_dict(), folder / "model.pt"))
