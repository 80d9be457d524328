"""The float model itself, against itself: what the ratios of the others vary by."""

import torch
from torch import Tensor, nn

from ..setting import Setting
from ..workloads import Inputs
from .record import Built

__all__ = ["build"]


def build(model: nn.Module, _calibration: list[Inputs], _setting: Setting) -> Built:
    """The same model."""

    def call(inputs: Inputs) -> Tensor:
        return model(*inputs)

    return Built(call, lambda folder: torch.save(model.state_dict(), folder / "model.pt"))
