"""AdaRound's problem in float64, without any code of mono_quant's: all choices that there are, and the paper's way.

Shapes: a row of the weight ``(K,)``, its scale and zero point ``(K,)``, inputs ``X`` ``(N, K)``.
"""

from itertools import product

import torch
from torch import Tensor

__all__ = ["best_choice", "error", "nearest", "paper"]


def two(row: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> tuple[list[float], list[float]]:
    """The codes below and above each weight."""
    place = row.double() / scale.double()
    ends = [(p + zero_point.double()).clamp(low, high).tolist() for p in (place.floor(), place.ceil())]
    return ends[0], ends[1]


def error(row: Tensor, codes: Tensor, scale: Tensor, zero_point: Tensor, x: Tensor) -> float:
    """``|X (w - ŵ)ᵀ|²``."""
    value = (codes.double() - zero_point.double()) * scale.double()
    return float((x.double() @ (row.double() - value)).square().sum())


def nearest(row: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
    """Rounded by itself."""
    return ((row.double() / scale.double()).round() + zero_point.double()).clamp(low, high)


def best_choice(row: Tensor, scale: Tensor, zero_point: Tensor, x: Tensor, *, ends: tuple[int, int]) -> float:
    """The least error of all ``2^K`` choices of up and down."""
    down, up = two(row, scale, zero_point, *ends)
    every = torch.tensor([*product(*zip(down, up, strict=True))], dtype=torch.float64)
    change = row.double() - (every - zero_point.double()) * scale.double()
    return float((change @ x.double().T).square().sum(1).min())


def paper(row: Tensor, scale: Tensor, zero_point: Tensor, x: Tensor, *, ends: tuple[int, int]) -> Tensor:
    """Codes by torch's autograd and Adam on the outputs' mean squared error and the regularizer."""
    steps, weight = 2000, 1.0
    down, up = (torch.tensor(end, dtype=torch.float64) for end in two(row, scale, zero_point, *ends))
    place = (row.double() / scale.double() + zero_point.double()).clamp(*ends)
    v = torch.logit((place - down + 0.1) / 1.2).requires_grad_()
    adam = torch.optim.Adam([v], lr=0.01)
    for step in range(steps):
        h = (torch.sigmoid(v) * 1.2 - 0.1).clamp(0, 1)
        value = (down + h * (up - down) - zero_point.double()) * scale.double()
        loss = (x.double() @ (row.double() - value)).square().mean()
        if step >= 0.2 * steps:
            beta = 20 - 18 * (step - 0.2 * steps) / (0.8 * steps)
            loss = loss + weight * (1 - (2 * h - 1).abs() ** beta).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return torch.where(v.detach() >= 0, up, down)
