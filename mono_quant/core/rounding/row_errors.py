"""What a change of a weight costs the outputs."""

from torch import Tensor

__all__ = ["row_errors"]


def row_errors(change_RK: Tensor, hessian_KK: Tensor) -> Tensor:
    """``d H dᵀ`` of each row ``d``: twice the squared error of that output, ``(R,)``.

    Or ``(G, R)`` of a change ``(G, R, K)`` and ``H`` ``(G, K, K)``.
    """
    return (change_RK @ hessian_KK).mul_(change_RK).sum(dim=-1)
