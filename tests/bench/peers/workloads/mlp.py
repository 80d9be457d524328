"""A multilayer perceptron: three Linear layers whose float weights take 101 MB."""

import torch
from torch import nn

from .record import Inputs

__all__ = ["inputs", "load"]


def load() -> nn.Module:
    """``[N, 1024]`` → ``[N, 1024]``."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1024)
    ).eval()


def inputs(shape: tuple[int, ...], count: int, *, held_back: bool) -> list[Inputs]:
    """Normal noise."""
    generator = torch.Generator().manual_seed(2 if held_back else 1)
    return [(torch.randn(shape, generator=generator),) for _ in range(count)]
