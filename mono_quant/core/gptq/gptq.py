"""The ``gptq`` algorithm: for which layers it is, and which of the codes that it finds are taken."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mono_quant._user_line import level_of_the_user
from mono_quant.core.gptq.grid import Grid, codes_of_stored, stored_codes
from mono_quant.core.gptq.input_products import InputProducts
from mono_quant.core.gptq.solver import row_errors, solve
from mono_quant.core.schemes.layers import overridden
from mono_quant.core.weights import pair_safe_rows
from mono_quant.errors import ConfigurationError, QuantizationWarning
from mono_quant.modules import SmoothedLinear
from mono_quant.plugin_api.algorithm import Algorithm, DataFlow, Statistic
from mono_quant.plugin_api.layer import QuantizedLayer
from mono_quant.plugin_api.plan import LayerPlan, Plan, Rewrite

__all__ = ["GPTQ"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WORTH_IT = 0.999
"""The part of a row's error that may be left at most; a smaller gain could be an error of the sums themselves."""
_SYMMETRIC_INT8 = -127
"""The least code of int8 weights that kernels multiply by codes of inputs."""


class GPTQ(Algorithm):
    """Chooses other codes for the weights of linear layers and convolutions; scales and zero points stay.

    Takes part where weights are integers of 2 to 8 bits and the layer's inputs were watched. A row gets the codes that
    are found where they make less error on these inputs than the scheme's own, so no row gets worse.

    Args:
        damping: the part of the mean diagonal of ``H`` that is added to it; more of it means less trust in the data.
        block_size: columns that are worked through together; changes the time alone.
        max_columns: layers with more inputs for each output are left alone, since ``H`` has this number squared.
    """

    def __init__(self, *, damping: float = 0.01, block_size: int = 128, max_columns: int = 16384) -> None:
        if not (isinstance(damping, int | float) and 0 <= damping < float("inf")):
            raise ConfigurationError(f"damping must be a number of at least 0, got {damping!r}")
        for option, value in (("block_size", block_size), ("max_columns", max_columns)):
            if type(value) is not int or value < 1:
                raise ConfigurationError(f"{option} must be a whole number of at least 1, got {value!r}")
        self._damping = float(damping)
        self._block_size = block_size
        self._max_columns = max_columns

    def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
        """The products of the inputs of layers that can be refined."""
        del name
        return InputProducts(module) if plan is not None and self._is_for(module, plan) else None

    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        """Nothing: the float model stays as it is."""
        del modules, plan, flow
        return ()

    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """Nothing."""
        del rewrite, modules
        return {}

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
        found_RK = self._found(layer, codes_RK, Grid.of(stored, spec), statistic)
        if found_RK is None:
            warnings.warn(
                f"gptq leaves layer {plan.name or '(model)'!r} as its scheme rounded it: the products of its inputs "
                "are not finite or have no Cholesky factor. Look at the calibration data, or give a larger damping",
                QuantizationWarning,
                stacklevel=level_of_the_user(),
            )
            return {}
        if plan.input is not None:
            found_RK = _within_rules(found_RK, codes_RK)
        return {} if torch.equal(found_RK, codes_RK) else {"weight": stored_codes(found_RK, spec)}

    def _is_for(self, layer: nn.Module, plan: LayerPlan) -> bool:
        spec = plan.weights.get("weight")
        base = next((base for base in _LAYERS if isinstance(layer, base)), None)
        if spec is None or base is None or (overridden(layer, base) and type(layer) is not SmoothedLinear):
            return False
        is_of_integers = spec.is_scaled and not spec.dtype.is_float
        return is_of_integers and spec.axis == 0 and 0 < spec.per_channel <= self._max_columns

    def _found(self, layer: nn.Module, codes_RK: Tensor, grid: Grid, inputs: InputProducts) -> Tensor | None:
        """Codes, int8 ``(R, K)``, of rows that gain by other ones; None when those of some group cannot be found."""
        weight_RK = layer.get_parameter("weight").detach().float().flatten(1)
        hessian_GKK = inputs.hessian.to(weight_RK.device)
        if isinstance(layer, SmoothedLinear):  # what was watched is the input before it is multiplied
            factor_K = layer.input_factor.detach().float()
            hessian_GKK = hessian_GKK * factor_K * factor_K[:, None]
        found_RK = codes_RK.clone()
        step = len(weight_RK) // len(hessian_GKK)
        for group, hessian_KK in enumerate(hessian_GKK):
            rows = slice(group * step, (group + 1) * step)
            some, some_grid = weight_RK[rows], grid.of_rows(rows)
            found = solve(some, hessian_KK, some_grid, damping=self._damping, block_size=self._block_size)
            if found is None:
                return None
            is_used = hessian_KK.diagonal() > 0  # what no data told of keeps the code that is nearest
            found = torch.where(is_used, found, codes_RK[rows])
            before, after = (
                row_errors(some - some_grid.values(codes), hessian_KK) for codes in (codes_RK[rows], found)
            )
            gains = after < _WORTH_IT * before
            found_RK[rows] = torch.where(gains[:, None], found.to(torch.int8), codes_RK[rows])
        return found_RK


def _within_rules(found_RK: Tensor, codes_RK: Tensor) -> Tensor:
    """The codes found, but for rows that break a rule which those of the scheme keep; see `mono_quant.core.weights`."""
    keeps = found_RK.amin(dim=1) >= _SYMMETRIC_INT8
    safe = pair_safe_rows(codes_RK)
    if bool(safe.all()):
        keeps &= pair_safe_rows(found_RK)
    return torch.where(keeps[:, None], found_RK, codes_RK)
