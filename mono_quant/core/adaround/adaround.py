"""The ``adaround`` algorithm: its options, and working through a weight some rows at a time."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from mono_quant.core.adaround.choices import Choices
from mono_quant.core.adaround.relaxation import relax
from mono_quant.core.adaround.settle import settle
from mono_quant.core.blocks import BLOCK_ELEMENTS
from mono_quant.core.rounding import CodeChooser, CodeProblem
from mono_quant.errors import ConfigurationError

__all__ = ["AdaRound"]


class AdaRound(CodeChooser):
    """Rounds each weight up or down, whichever is better for the outputs.

    First by the paper's relaxation, then by changing single choices as long as that lowers the error.

    Args:
        iterations: steps of the relaxation; more take longer and find a little more.
        regularization: the paper's λ: how strongly weights are pulled to a decision while all others still move.
        max_columns: layers with more inputs for each output are left alone, since ``H`` has this number squared.
    """

    name: ClassVar[str] = "adaround"
    failure: ClassVar[str] = "the products of its inputs are not finite. Look at the calibration data"

    def __init__(self, *, iterations: int = 200, regularization: float = 0.01, max_columns: int = 16384) -> None:
        super().__init__(max_columns=max_columns)
        if type(iterations) is not int or iterations < 1:
            raise ConfigurationError(f"iterations must be a whole number of at least 1, got {iterations!r}")
        if not (isinstance(regularization, int | float) and 0 <= regularization < float("inf")):
            raise ConfigurationError(f"regularization must be a number of at least 0, got {regularization!r}")
        self._iterations = iterations
        self._regularization = float(regularization)

    def choose(self, problem: CodeProblem) -> Tensor | None:
        """One of the two codes next to each weight; None when the inputs' products are not finite."""
        if not bool(torch.isfinite(problem.hessian_GKK).all()):
            return None
        choices = Choices.of(problem)
        step_GRK, rest_GRK = problem.by_group(choices.step_RK), problem.by_group(choices.rest_RK)
        is_up_GRK = torch.zeros_like(step_GRK, dtype=torch.bool)
        for groups, rows in _blocks(step_GRK):
            step, rest, hessian = step_GRK[groups, rows], rest_GRK[groups, rows], problem.hessian_GKK[groups]
            is_up = relax(step, rest, hessian, iterations=self._iterations, regularization=self._regularization)
            is_up_GRK[groups, rows] = settle(step, rest, hessian, is_up)
        return choices.codes(is_up_GRK.flatten(0, 1))


def _blocks(rows_GRK: Tensor) -> Iterator[tuple[slice, slice]]:
    """Some groups with all of their rows, or some rows of one group: what is computed on the way stays small."""
    groups, rows, columns = rows_GRK.shape
    group_step = max(1, BLOCK_ELEMENTS // max(1, rows * columns))
    row_step = max(1, BLOCK_ELEMENTS // max(1, columns))
    for group in range(0, groups, group_step):
        for row in range(0, rows, row_step):
            yield slice(group, group + group_step), slice(row, row + row_step)
