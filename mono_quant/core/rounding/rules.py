"""What codes have to keep to when a kernel multiplies them by codes of inputs; see `mono_quant.core.weights`.

Shape suffixes: R rows (channels), K columns (elements of a channel).
"""

import torch
from torch import Tensor

from mono_quant.core.qtypes import INT8
from mono_quant.core.weights import pair_safe_rows
from mono_quant.plugin_api.plan import LayerPlan

__all__ = ["code_limits", "within_rules"]


def code_limits(codes_RK: Tensor, plan: LayerPlan) -> tuple[Tensor, Tensor]:
    """Within which any codes keep the rules, if those of the scheme do: lowest and highest, each ``(R, K)`` or fewer.

    Where the sum of two is bounded, the largest code of a row may stay, and no other may pass the second.
    """
    codes = plan.weights["weight"].code_type
    if plan.input is None:
        return codes_RK.new_full((1, 1), codes.qmin), codes_RK.new_full((1, 1), codes.qmax)
    if not bool(pair_safe_rows(codes_RK).all()):
        return codes_RK.new_full((1, 1), -codes.qmax), codes_RK.new_full((1, 1), codes.qmax)
    two = min(2, codes_RK.shape[1])
    highest = codes_RK.topk(two, dim=1).values[:, -1:]
    lowest = codes_RK.topk(two, dim=1, largest=False).values[:, -1:]
    return torch.minimum(codes_RK, lowest), torch.maximum(codes_RK, highest)


def within_rules(found_RK: Tensor, codes_RK: Tensor) -> Tensor:
    """The codes found, but for rows that break a rule which those of the scheme keep."""
    keeps = found_RK.amin(dim=1) >= -INT8.qmax
    if bool(pair_safe_rows(codes_RK).all()):
        keeps &= pair_safe_rows(found_RK)
    return torch.where(keeps[:, None], found_RK, codes_RK)
