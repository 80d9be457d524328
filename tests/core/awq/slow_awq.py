"""AWQ by the paper, in float64, number by number: outputs are computed from inputs, no product of inputs is formed.

No code of mono_quant's. Shapes: inputs ``(N, K)``, weights ``(R, K)``, ``s`` ``(K,)``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["best", "divisors", "output_error", "rounded"]


def rounded(weight: Tensor, *, bits: int, size: int, symmetric: bool = False) -> Tensor:
    """What the codes stand for that are nearest to each weight; each group of ``size`` in a row has a range."""
    values = weight.double().clone()
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for row in values:
        for start in range(0, len(row), size):
            group = row[start : start + size]
            low, high = min(float(group.min()), 0.0), max(float(group.max()), 0.0)
            if low == high:
                continue
            step = max(-low, high) / highest if symmetric else (high - low) / (highest - lowest)
            zero = 0 if symmetric else min(max(round(lowest - low / step), lowest), highest)
            for place, value in enumerate(group.tolist()):
                code = min(max(round(value / step) + zero, lowest), highest)
                group[place] = (code - zero) * step
    return values


def output_error(x: Tensor, weight: Tensor, s: Tensor, **grid: int) -> float:
    """``‖x Wᵀ - (x / s) round(W s)ᵀ‖²`` over all rows."""
    x, weight, s = x.double(), weight.double(), s.double()
    return float((x @ weight.T - (x / s) @ rounded(weight * s, **grid).T).square().sum())


def divisors(x: Tensor, weights: Sequence[Tensor], steps: int, *, size: int) -> list[Tensor]:
    """1, then ``mean|x|^α`` and ``mean|x|^α / mean(|w| / max|w|)^(1 - α)`` for all ``α``."""
    columns = x.shape[1]
    large = [sum(abs(float(value)) for value in x[:, j]) / len(x) for j in range(columns)]
    share = [0.0] * columns
    rows = [row.tolist() for weight in weights for row in weight]
    for row in rows:
        for j, value in enumerate(row):
            start = j // size * size
            share[j] += abs(value) / max(abs(other) for other in row[start : start + size]) / len(rows)
    found = [[1.0] * columns]
    for alpha in (step / steps for step in range(steps + 1)):
        found.append([value**alpha for value in large])
        found.append([value**alpha / part ** (1 - alpha) for value, part in zip(large, share, strict=True)])
    return [torch.tensor(s, dtype=torch.float64) for s in found]


def best(x: Tensor, weights: Sequence[Tensor], steps: int, *, bits: int, size: int) -> tuple[Tensor, float, float]:
    """The ``s`` of least error, that error, and that of ``s = 1``; each layer's counts as a part of its outputs."""
    powers = [float((x.double() @ weight.double().T).square().sum()) for weight in weights]
    tried = divisors(x, weights, steps, size=size)
    errors = [
        sum(output_error(x, w, s, bits=bits, size=size) / p for w, p in zip(weights, powers, strict=True))
        for s in tried
    ]
    least = min(range(len(errors)), key=errors.__getitem__)
    return tried[least], errors[least], errors[0]
