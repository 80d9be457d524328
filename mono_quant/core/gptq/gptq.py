"""The ``gptq`` algorithm: its options, and one call of the solver for each group of a convolution."""

from typing import ClassVar

import torch
from torch import Tensor

from mono_quant.core.gptq.solver import solve
from mono_quant.core.rounding import CodeChooser, CodeProblem
from mono_quant.errors import ConfigurationError

__all__ = ["GPTQ"]


class GPTQ(CodeChooser):
    """Chooses codes column after column; what one lost is made up for by those that are still to come.

    Args:
        damping: the part of the mean diagonal of ``H`` that is added to it; more of it means less trust in the data.
        block_size: columns that are worked through together; changes the time alone.
        max_columns: layers with more inputs for each output are left alone, since ``H`` has this number squared.
    """

    name: ClassVar[str] = "gptq"
    failure: ClassVar[str] = (
        "the products of its inputs are not finite or have no Cholesky factor. Look at the calibration data, or give a "
        "larger damping"
    )

    def __init__(self, *, damping: float = 0.01, block_size: int = 128, max_columns: int = 16384) -> None:
        super().__init__(max_columns=max_columns)
        if not (isinstance(damping, int | float) and 0 <= damping < float("inf")):
            raise ConfigurationError(f"damping must be a number of at least 0, got {damping!r}")
        if type(block_size) is not int or block_size < 1:
            raise ConfigurationError(f"block_size must be a whole number of at least 1, got {block_size!r}")
        self._damping = float(damping)
        self._block_size = block_size

    def choose(self, problem: CodeProblem) -> Tensor | None:
        """Codes by the solver; None when those of some group cannot be found."""
        found = []
        weight_GRK = problem.by_group(problem.weight_RK)
        step = weight_GRK.shape[1]
        for group, hessian_KK in enumerate(problem.hessian_GKK):
            grid = problem.grid.of_rows(slice(group * step, (group + 1) * step))
            codes_RK = solve(weight_GRK[group], hessian_KK, grid, damping=self._damping, block_size=self._block_size)
            if codes_RK is None:
                return None
            found.append(codes_RK)
        return torch.cat(found)
