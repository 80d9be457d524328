"""Changing single choices while that lowers the error.

With ``d`` a row of errors and ``H`` symmetric, another choice for the weight ``k`` changes ``d_k`` by ``c = ± step_k``,
and the row's error ``d H dᵀ`` by ``2 c (d H)_k + c² H_kk``. The best choice of each row is changed, then ``d H`` by
``c`` times a row of ``H``, and so on: the error falls each time, so it ends.

Shape suffixes: G groups of a convolution, R rows of one, K columns.
"""

import torch
from torch import Tensor

__all__ = ["settle"]

_WORTH_IT = 1e-5
"""The part of the weight's own ``c² H_kk`` that a change has to gain: less could be an error of the sums."""


def settle(step_GRK: Tensor, rest_GRK: Tensor, hessian_GKK: Tensor, is_up_GRK: Tensor) -> Tensor:
    """Choices, bool ``(G, R, K)``, of which no single other one is better; or after ``2 K`` changes of a row.

    Args:
        step_GRK: what rounding up adds to a value; 0 where there is no choice.
        rest_GRK: what the value of rounding down lacks.
        hessian_GKK: ``H``.
        is_up_GRK: the choices to begin with; stays as it is.
    """
    is_up_GRK = is_up_GRK.clone()
    groups = torch.arange(len(hessian_GKK), device=hessian_GKK.device)[:, None]
    own_GRK = step_GRK.square() * hessian_GKK.diagonal(dim1=1, dim2=2)[:, None]
    pull_GRK = torch.bmm(step_GRK * is_up_GRK - rest_GRK, hessian_GKK)
    for _ in range(2 * step_GRK.shape[2]):
        change_GRK = torch.where(is_up_GRK, -step_GRK, step_GRK)
        gain_GR, column_GR = torch.addcmul(own_GRK, change_GRK, pull_GRK, value=2).add_(own_GRK, alpha=_WORTH_IT).min(2)
        is_better_GR1 = (gain_GR < 0)[:, :, None]
        if not bool(is_better_GR1.any()):
            break
        column_GR1 = column_GR[:, :, None]
        pull_GRK.addcmul_(change_GRK.gather(2, column_GR1) * is_better_GR1, hessian_GKK[groups, column_GR])
        is_up_GRK.scatter_(2, column_GR1, is_up_GRK.gather(2, column_GR1) ^ is_better_GR1)
    return is_up_GRK
