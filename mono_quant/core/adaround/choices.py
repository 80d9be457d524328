"""The two codes between which a weight lies.

Shape suffixes: R rows (channels), K columns (elements of a channel).
"""

from typing import Self

import attrs
import torch
from torch import Tensor

from mono_quant.core.rounding import CodeProblem

__all__ = ["Choices"]


@attrs.frozen(eq=False)
class Choices:
    """What rounding down and up come to, for each weight; the error of the value is ``step · h - rest``.

    Args:
        lower_RK: the lower code, or the only one; the code that the layer has where nothing is known of the inputs.
        step_RK: how much larger the value of the upper one is; 0 where there is no choice.
        rest_RK: how much larger the weight is than the value of the lower one. Between 0 and the step, but for weights
            beyond the ends of the codes.
    """

    lower_RK: Tensor
    step_RK: Tensor
    rest_RK: Tensor

    @classmethod
    def of(cls, problem: CodeProblem) -> Self:
        """There is none for weights on or beyond the grid, nor for those whose inputs were all 0."""
        grid, weight_RK = problem.grid, problem.weight_RK
        scale_RK, zero_point_RK = grid.by_column(weight_RK.shape[1])
        place_RK = weight_RK / scale_RK
        lower_RK, upper_RK = (
            (whole_RK + zero_point_RK).clamp(problem.lowest_RK.float(), problem.highest_RK.float())
            for whole_RK in (place_RK.floor(), place_RK.ceil())
        )
        is_used_G1K = problem.hessian_GKK.diagonal(dim1=1, dim2=2)[:, None] > 0
        is_used_RK = is_used_G1K.expand_as(problem.by_group(lower_RK)).flatten(0, 1)
        is_open_RK = (upper_RK > lower_RK) & is_used_RK
        lower_RK = torch.where(is_used_RK, lower_RK, problem.codes_RK)
        step_RK = scale_RK * is_open_RK
        return cls(lower_RK, step_RK, weight_RK - (lower_RK - zero_point_RK) * scale_RK)

    def codes(self, is_up_RK: Tensor) -> Tensor:
        """Float ``(R, K)``."""
        return self.lower_RK + (is_up_RK & (self.step_RK > 0))
