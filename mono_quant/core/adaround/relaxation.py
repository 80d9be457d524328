"""Rounding up or down as a continuous problem, solved by gradients.

The outputs' squared error is ``Σ d H dᵀ / 2`` over rows ``d = step · h - rest`` of errors of weights, with
``H = 2 XᵀX``. So all data take part in each step without being kept, and there is nothing random.

1. The paper weighs this against its regularizer, ``λ f(h)``, in the outputs' own units: the same layer with outputs ten
   times as large decides otherwise. Here the slope by each ``h_k`` is divided by ``step_k² H_kk``, the curvature of its
   own error, and that is taken for `_OWN_CURVATURE`, about what it is in trained nets at 4 bits. So each term of the
   regularizer weighs as much as its weight does, and no scale of inputs, weights or outputs matters.
2. Adam's steps hardly depend on the size of the slopes. They are so long that all together go a fixed way, however many
   there are.

Shape suffixes: G groups of a convolution, R rows of one, K columns.
"""

import torch
from torch import Tensor

from mono_quant.core.adaround.rectified import beta_of, rectified, regularizer_slope, unrectified

__all__ = ["relax"]

_OWN_CURVATURE = 0.001
_WAY = 12.0
"""How far all steps go together; from ``h = 0`` to ``h = 1`` it is 4.8."""
_MEAN, _SQUARE, _EPSILON = 0.9, 0.95, 1e-8
"""Adam's; the mean square is that of the last 20 steps rather than 1000, since there are some hundreds in all."""


def relax(step_GRK: Tensor, rest_GRK: Tensor, hessian_GKK: Tensor, *, iterations: int, regularization: float) -> Tensor:
    """Which weights are rounded up, bool ``(G, R, K)``.

    Args:
        step_GRK: what rounding up adds to a value; 0 where there is no choice.
        rest_GRK: what the value of rounding down lacks.
        hessian_GKK: ``2 XᵀX``.
        iterations: how many steps.
        regularization: the paper's λ, 0.01.
    """
    own_GRK = step_GRK * hessian_GKK.diagonal(dim1=1, dim2=2)[:, None]
    pull_GRK = torch.where(own_GRK > 0, _OWN_CURVATURE / own_GRK, 0.0)
    v = unrectified((rest_GRK / step_GRK).nan_to_num_(0.0).clamp_(0, 1))
    mean, square = torch.zeros_like(v), torch.zeros_like(v)
    rate = _WAY / iterations
    for step in range(iterations):
        h, slope = rectified(v)
        gradient = torch.bmm(h.mul(step_GRK).sub_(rest_GRK), hessian_GKK).mul_(pull_GRK)
        if beta := beta_of(step, iterations):
            gradient.add_(regularizer_slope(h, beta), alpha=regularization)
        gradient.mul_(slope)
        mean.lerp_(gradient, 1 - _MEAN)
        square.mul_(_SQUARE).addcmul_(gradient, gradient, value=1 - _SQUARE)
        size = square.div(1 - _SQUARE ** (step + 1)).sqrt_().add_(_EPSILON)
        v.addcdiv_(mean, size, value=-rate / (1 - _MEAN ** (step + 1)))
    return v >= 0
