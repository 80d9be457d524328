"""Optimal brain quantization by the book, in float64: one column at a time, each time with an explicit inverse.

No code of mono_quant's. Shapes: weight ``(R, K)``, scale and zero point ``(R, G)``, ``H`` ``(K, K)``.
"""

from itertools import product

import torch
from torch import Tensor

__all__ = ["best_of_all", "error", "obq", "value"]


def obq(
    weight: Tensor, hessian: Tensor, scale: Tensor, zero_point: Tensor, *, size: int, bits: int, damping: float = 0.01
) -> Tensor:
    """Codes ``(R, K)``: a column is rounded, and those that are left take the values that are then best.

    With the columns ``j`` and ``F`` (left), the best change of ``w_F`` for a change ``-e`` of ``w_j`` is
    ``e · H_FF⁻¹ H_Fj``: the minimum of a quadratic form, found anew each time.
    """
    left, count = weight.double().clone(), weight.shape[1]
    hessian = hessian.double().clone()
    columns = sorted(range(count), key=lambda j: (-float(hessian[j, j]), j))
    mean = sum(float(hessian[j, j]) for j in range(count)) / count
    for j in range(count):
        if hessian[j, j] == 0:
            hessian[j, j], left[:, j] = 1, 0
        hessian[j, j] += damping * mean
    codes = torch.zeros(weight.shape, dtype=torch.float64)
    while columns:
        j = columns.pop(0)
        s, z = scale.double()[:, j // size], zero_point.double()[:, j // size]
        codes[:, j] = (left[:, j] / s).round().add(z).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        lost = left[:, j] - (codes[:, j] - z) * s
        if columns:
            inverse = torch.linalg.inv(hessian[columns][:, columns])
            left[:, columns] += torch.outer(lost, inverse @ hessian[columns, j])
    return codes


def best_of_all(row: Tensor, hessian: Tensor, scale: Tensor, zero_point: Tensor, *, size: int, bits: int) -> float:
    """The least error that any codes for one row have; scale and zero point ``(G,)``."""
    columns = len(row)
    codes = torch.tensor(list(product(range(-(2 ** (bits - 1)), 2 ** (bits - 1)), repeat=columns)), dtype=torch.float64)
    group = [j // size for j in range(columns)]
    change = row.double() - (codes - zero_point.double()[group]) * scale.double()[group]
    return float(((change @ hessian.double()) * change).sum(1).min())


def value(codes: Tensor, scale: Tensor, zero_point: Tensor, size: int) -> Tensor:
    """What codes stand for."""
    group = [j // size for j in range(codes.shape[1])]
    return (codes.double() - zero_point.double()[:, group]) * scale.double()[:, group]


def error(weight: Tensor, values: Tensor, hessian: Tensor) -> Tensor:
    """``d H dᵀ`` of each row, ``(R,)``."""
    change = weight.double() - values.double()
    return torch.stack([d @ hessian.double() @ d for d in change])
