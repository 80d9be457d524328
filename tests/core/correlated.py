"""Inputs whose features go together, as those of trained nets do, and others that do not."""

import torch
from torch import Tensor

__all__ = ["correlated", "smooth", "white"]


def correlated(rows: int, columns: int, *, rank: int = 6, seed: int = 0) -> Tensor:
    """A few directions and a little noise, float32 ``(rows, columns)``."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(rows, rank, generator=generator) @ torch.randn(rank, columns, generator=generator)
    return mixed + 0.1 * torch.randn(rows, columns, generator=generator)


def smooth(samples: int, channels: int, spatial: tuple[int, ...], *, seed: int = 0) -> Tensor:
    """Pictures that vary little from place to place, and alike in all channels: ``(samples, channels, *spatial)``."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.randn(samples, 1, *(1 for _ in spatial), generator=generator)
    gain = torch.rand(1, channels, *(1 for _ in spatial), generator=generator) + 0.5
    return level * gain + 0.1 * torch.randn(samples, channels, *spatial, generator=generator)


def white(columns: int, repeat: int = 3) -> Tensor:
    """Rows of which each two columns are exactly orthogonal: ``XᵀX`` is a multiple of the identity."""
    return torch.eye(columns).repeat(repeat, 1)
