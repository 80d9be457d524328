"""The relaxation of AdaRound: a number between rounding down, 0, and up, 1, and what makes it decide.

Nagel et al. 2020, https://arxiv.org/abs/2004.10568, equations 23 and 24:

    h(V) = clip(sigmoid(V) (ζ - γ) + γ, 0, 1)        f(h) = Σ (1 - |2h - 1|^β)        ζ = 1.1, γ = -0.1
"""

import torch
from torch import Tensor

__all__ = ["beta_of", "rectified", "regularizer_slope", "unrectified"]

_ZETA, _GAMMA = 1.1, -0.1


def rectified(v: Tensor) -> tuple[Tensor, Tensor]:
    """``h(V)`` and its slope, which is 0 where ``h`` is clipped."""
    sigmoid = torch.sigmoid(v)
    unclipped = sigmoid * (_ZETA - _GAMMA) + _GAMMA
    h = unclipped.clamp(0, 1)
    slope = sigmoid.mul_(1 - sigmoid).mul_(_ZETA - _GAMMA)
    return h, slope.masked_fill_(h != unclipped, 0)


def unrectified(h: Tensor) -> Tensor:
    """The ``V`` of ``h(V) = h``, for ``h`` in ``[0, 1]``."""
    return torch.logit((h - _GAMMA) / (_ZETA - _GAMMA))


def regularizer_slope(h: Tensor, beta: float) -> Tensor:
    """The slope of ``f`` by each ``h``: ``-2β sign(2h - 1) |2h - 1|^(β - 1)``, for ``β > 1``."""
    y = h * 2 - 1
    return y.abs().pow_(beta - 1).copysign_(y).mul_(-2 * beta)


def beta_of(step: int, iterations: int, *, warm_start: float = 0.2, start: float = 20.0, end: float = 2.0) -> float:
    """The exponent of one step, which falls evenly from ``start`` to ``end``; 0 while there is no regularizer yet.

    A large exponent spares all but what is nearly decided; a small one leaves nothing undecided.
    """
    first = warm_start * iterations
    return 0.0 if step < first else start + (end - start) * (step - first) / (iterations - first)
