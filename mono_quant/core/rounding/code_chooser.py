"""Algorithms that choose codes for weights: for which layers they are, and which of the codes found are taken."""

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import attrs
import torch
from torch import Tensor, nn

from mono_quant._user_line import level_of_the_user
from mono_quant.core.rounding.grid import Grid, codes_of_stored, stored_codes
from mono_quant.core.rounding.input_products import InputProducts
from mono_quant.core.rounding.row_errors import row_errors
from mono_quant.core.rounding.rules import code_limits, within_rules
from mono_quant.core.schemes.layers import LINEAR_AND_CONV, overridden
from mono_quant.errors import ConfigurationError, QuantizationWarning
from mono_quant.modules import SmoothedLinear
from mono_quant.plugin_api.algorithm import Refinement, Statistic
from mono_quant.plugin_api.layer import QuantizedLayer
from mono_quant.plugin_api.plan import LayerPlan

__all__ = ["CodeChooser", "CodeProblem"]

_WORTH_IT = 0.999
"""The part of a row's error that may be left at most; a smaller gain could be an error of the sums themselves."""


@attrs.frozen(eq=False)
class CodeProblem:
    """For which weights, on which data, codes are wanted.

    Shape suffixes: G groups of a convolution, R rows of the whole weight, K columns. The rows of a group follow each
    other.

    Args:
        weight_RK: float32.
        hessian_GKK: ``2 XᵀX`` of the inputs of each group, float32.
        grid: what codes stand for.
        codes_RK: those that the layer has, int8.
        lowest_RK: of codes that may be chosen freely, or of a shape that broadcasts; others may be chosen, but a row
            that then breaks a rule of its kernels is not taken.
        highest_RK: likewise.
    """

    weight_RK: Tensor
    hessian_GKK: Tensor
    grid: Grid
    codes_RK: Tensor
    lowest_RK: Tensor
    highest_RK: Tensor

    def by_group(self, tensor_RK: Tensor) -> Tensor:
        """``(R, K) → (G, R/G, K)``."""
        groups = len(self.hessian_GKK)
        return tensor_RK.reshape(groups, tensor_RK.shape[0] // groups, tensor_RK.shape[1])

    def errors(self, codes_RK: Tensor) -> Tensor:
        """`row_errors` of codes, ``(R,)``."""
        change_RK = self.weight_RK - self.grid.values(codes_RK)
        return row_errors(self.by_group(change_RK), self.hessian_GKK).flatten()


class CodeChooser(Refinement):
    """Chooses other codes for the weights of linear layers and convolutions; scales and zero points stay.

    Takes part where weights are integers of 2 to 8 bits and the layer's inputs were watched. A row gets the codes that
    are found where they make less error on these inputs than the scheme's own, so no row gets worse.

    Args:
        max_columns: layers with more inputs for each output are left alone, since ``H`` has this number squared.
    """

    name: ClassVar[str]
    """Under which users name it."""

    failure: ClassVar[str]
    """Why `choose` may give None, and what to do."""

    def __init__(self, *, max_columns: int) -> None:
        if type(max_columns) is not int or max_columns < 1:
            raise ConfigurationError(f"max_columns must be a whole number of at least 1, got {max_columns!r}")
        self._max_columns = max_columns

    @abstractmethod
    def choose(self, problem: CodeProblem) -> Tensor | None:
        """Better codes, ``(R, K)`` of any dtype, or None when there is no way to find any."""

    def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
        """The products of the inputs of layers that can be refined."""
        del name
        return InputProducts(module) if plan is not None and self._is_for(module, plan) else None

    def refine(
        self, layer: nn.Module, quantized: QuantizedLayer, plan: LayerPlan, statistic: Statistic | None
    ) -> Mapping[str, Tensor]:
        """Other codes for the rows that gain by them.

        Warns:
            QuantizationWarning: when nothing can be found from the layer's inputs, as when some were not finite.
        """
        if not isinstance(statistic, InputProducts) or not statistic.rows or not self._is_for(layer, plan):
            return {}
        spec = plan.weights["weight"]
        stored = quantized.stored("weight")
        codes_RK = codes_of_stored(stored[""], spec)
        problem = CodeProblem(
            layer.get_parameter("weight").detach().float().flatten(1),
            _hessian(layer, statistic),
            Grid.of(stored, spec),
            codes_RK,
            *code_limits(codes_RK, plan),
        )
        found_RK = self.choose(problem)
        if found_RK is None:
            warnings.warn(
                f"{self.name} leaves layer {plan.name or '(model)'!r} as its scheme rounded it: {self.failure}",
                QuantizationWarning,
                stacklevel=level_of_the_user(),
            )
            return {}
        taken_RK = _better(found_RK, problem)
        if plan.input is not None:
            taken_RK = within_rules(taken_RK, codes_RK)
        return {} if torch.equal(taken_RK, codes_RK) else {"weight": stored_codes(taken_RK, spec)}

    def _is_for(self, layer: nn.Module, plan: LayerPlan) -> bool:
        spec = plan.weights.get("weight")
        base = next((base for base in LINEAR_AND_CONV if isinstance(layer, base)), None)
        if spec is None or base is None or (overridden(layer, base) and type(layer) is not SmoothedLinear):
            return False
        is_of_integers = spec.is_scaled and not spec.dtype.is_float
        return is_of_integers and spec.axis == 0 and 0 < spec.per_channel <= self._max_columns


def _hessian(layer: nn.Module, inputs: InputProducts) -> Tensor:
    """``H`` of what the weight is multiplied by, ``(G, K, K)``."""
    hessian_GKK = inputs.hessian.to(layer.get_parameter("weight").device)
    if not isinstance(layer, SmoothedLinear):
        return hessian_GKK
    factor_K = layer.input_factor.detach().float()  # what was watched is the input before it is multiplied
    return hessian_GKK * factor_K * factor_K[:, None]


def _better(found_RK: Tensor, problem: CodeProblem) -> Tensor:
    """The codes found for rows that gain by them, and those that were there for the others; int8 ``(R, K)``."""
    codes_RK = problem.codes_RK
    is_used_G1K = problem.hessian_GKK.diagonal(dim1=1, dim2=2)[:, None] > 0  # what no data told of keeps its code
    found_RK = torch.where(is_used_G1K, problem.by_group(found_RK.to(torch.int8)), problem.by_group(codes_RK))
    found_RK = found_RK.flatten(0, 1)
    gains = problem.errors(found_RK) < _WORTH_IT * problem.errors(codes_RK)
    return torch.where(gains[:, None], found_RK, codes_RK)
