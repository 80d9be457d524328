"""Tensors that are hard for what reduces, rounds or stores them."""

import math

import torch
from torch import Tensor

__all__ = ["FINITE", "NOT_FINITE", "finite", "seeded"]

_ROWS, _CHANNELS, _ELEMENTS = 6, 4, 5

NOT_FINITE = (math.nan, math.inf, -math.inf)

FINITE = (
    "normal", "positive", "negative", "far-from-zero", "constant", "zeros", "one-element", "outlier", "heavy-tails",
    "two-values", "huge", "tiny", "subnormal", "negative-zero",
)  # fmt: skip
"""Names of what `finite` makes."""


def seeded(seed: int = 0) -> torch.Generator:
    """Random numbers that are the same in every run."""
    return torch.Generator().manual_seed(seed)


def finite(name: str) -> Tensor:
    """A float32 tensor ``(rows, channels, elements)`` of one of the kinds in `FINITE`."""
    x = torch.randn(_ROWS, _CHANNELS, _ELEMENTS, generator=seeded(), dtype=torch.float32)
    if name == "one-element":
        return x[:1, :1, :1]
    if name == "outlier":
        x[2, 1, 3] = 1e4
        return x
    made: dict[str, Tensor] = {
        "normal": x,
        "positive": x.abs() + 0.25,
        "negative": -x.abs() - 0.25,
        "far-from-zero": x / 64 + 1000,
        "constant": torch.full_like(x, 0.7),
        "zeros": torch.zeros_like(x),
        "heavy-tails": x**9,
        "two-values": x.sign() * 3,
        "huge": x.clamp(-1, 1) * 1e38,
        "tiny": x * 1e-36,
        "subnormal": x * 1e-42,
        "negative-zero": -torch.zeros_like(x),
    }
    return made[name]
