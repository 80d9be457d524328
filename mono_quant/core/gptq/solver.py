"""Rounding column after column, where what one column lost is made up for by those that are still to come.

GPTQ (Frantar et al. 2022, https://arxiv.org/abs/2210.17323, algorithm 1). The outputs' squared error for rounded
weights ``Q`` is ``tr((W - Q) H (W - Q)ᵀ) / 2`` with ``H = 2 XᵀX``. With the upper triangular ``U`` of ``H⁻¹ = Uᵀ U``,
for each column ``j`` in turn:

    q_j = nearest(w_j)        e_j = (w_j - q_j) / U_jj        w_k ← w_k - e_j · U_jk   for all k > j

1. ``H`` is damped: a part of its mean diagonal is added to the diagonal. A column of no input, ``H_jj = 0``, gets 1
   there, and its weights are taken for 0: they have no part in any output.
2. Columns come in order of descending ``H_jj``, so that those that matter most are rounded while all others can still
   make up for it. Each keeps the scale of the group in which it lies.
3. No inverse is needed. Of ``H`` with both axes reversed take the lower ``L`` of Cholesky; reversed again it is an
   upper ``V`` of ``H = V Vᵀ``, and ``U = V⁻¹``.
4. Later columns are updated once for each block of columns, by one product of matrices.

Shape suffixes: R rows (outputs), K columns (inputs), B columns of a block.
"""

import torch
from torch import Tensor

from mono_quant.core.rounding.grid import Grid

__all__ = ["factor_of_inverse", "solve"]

_CHOLESKY_BLOCK = 64


def solve(
    weight_RK: Tensor, hessian_KK: Tensor, grid: Grid, *, damping: float = 0.01, block_size: int = 128
) -> Tensor | None:
    """Codes for the least error of outputs, in the weight's dtype ``(R, K)``; None when ``H`` has no Cholesky factor.

    Args:
        weight_RK: float.
        hessian_KK: ``H``, of the same dtype.
        grid: what codes stand for, of the same dtype.
        damping: the part of the mean diagonal that is added to it.
        block_size: columns of a block; changes nothing but the time and the rounding of sums.
    """
    diagonal_K = hessian_KK.diagonal()
    dead_K = diagonal_K == 0
    order_K = diagonal_K.argsort(descending=True, stable=True)
    added_K = dead_K[order_K].to(weight_RK.dtype) + damping * diagonal_K.mean()
    upper_KK = factor_of_inverse(_ordered(hessian_KK, order_K, added_K))
    if upper_KK is None:
        return None
    left_KR = weight_RK.masked_fill(dead_K, 0).T[order_K]
    codes_KR = torch.empty_like(left_KR)
    columns = order_K.tolist()
    for start in range(0, len(columns), block_size):
        block = slice(start, start + block_size)
        upper_BB, left_BR = upper_KK[block, block], left_KR[block]
        lost_BR = torch.empty_like(left_BR)
        for i, column in enumerate(columns[block]):
            codes_KR[start + i], value_R = grid.nearest(left_BR[i], column)
            torch.div(left_BR[i] - value_R, upper_BB[i, i], out=lost_BR[i])
            left_BR[i + 1 :].addr_(upper_BB[i, i + 1 :], lost_BR[i], alpha=-1)
        left_KR[block.stop :].addmm_(upper_KK[block, block.stop :].T, lost_BR, alpha=-1)
    return codes_KR[order_K.argsort()].T


def factor_of_inverse(hessian_KK: Tensor) -> Tensor | None:
    """The upper triangular ``U``, ``(K, K)``, of ``H⁻¹ = Uᵀ U``; None when ``H`` is not positive definite."""
    lower = hessian_KK.flip(0, 1)
    del hessian_KK  # each of these is as large as it
    if not _put_cholesky(lower):
        return None
    _put_inverse(lower)
    upper = lower.flip(0, 1)
    return upper if bool(torch.isfinite(upper).all()) else None


def _ordered(hessian_KK: Tensor, order_K: Tensor, added_K: Tensor) -> Tensor:
    """``H`` with both axes in another order, and something added to the diagonal of that."""
    ordered_KK = hessian_KK[order_K[:, None], order_K]
    ordered_KK.diagonal().add_(added_K)
    return ordered_KK


def _put_cholesky(lower_KK: Tensor) -> bool:
    """Put the lower ``L`` of ``H = L Lᵀ`` in the place of ``H``; whether there is one. The same bits on all threads.

    On other numbers of threads LAPACK gives other last bits for a large matrix, and one of them is enough to make other
    codes. Here the blocks are fixed, and LAPACK is given the small ones on the diagonal, where it uses one thread:

        L_bb = chol(H_bb)        L_rb = H_rb L_bb⁻ᵀ        H_rr ← H_rr - L_rb L_rbᵀ        for the rows r below b
    """
    lower_KK.tril_()
    for start in range(0, len(lower_KK), _CHOLESKY_BLOCK):
        block, below = slice(start, start + _CHOLESKY_BLOCK), slice(start + _CHOLESKY_BLOCK, None)
        lower_BB, failure = torch.linalg.cholesky_ex(lower_KK[block, block])
        if int(failure):
            return False
        lower_KK[block, block] = lower_BB
        left_RB = torch.linalg.solve_triangular(lower_BB.mT, lower_KK[below, block], upper=True, left=False)
        lower_KK[below, block] = left_RB
        lower_KK[below, below].addmm_(left_RB, left_RB.T, alpha=-1)
    lower_KK.tril_()
    return True


def _put_inverse(lower_KK: Tensor) -> None:
    """Put the inverse ``X`` of a lower triangular ``L`` in the place of ``L``, from the last block to the first.

    X_bb = L_bb⁻¹        X_rb = -X_rr L_rb X_bb        for the rows r below b
    """
    for start in reversed(range(0, len(lower_KK), _CHOLESKY_BLOCK)):
        block, below = slice(start, start + _CHOLESKY_BLOCK), slice(start + _CHOLESKY_BLOCK, None)
        identity_BB = torch.eye(len(lower_KK[block]), dtype=lower_KK.dtype, device=lower_KK.device)
        inverse_BB = torch.linalg.solve_triangular(lower_KK[block, block], identity_BB, upper=False)
        lower_KK[block, block] = inverse_BB
        lower_KK[below, block] = lower_KK[below, below] @ (lower_KK[below, block] @ inverse_BB).neg_()
