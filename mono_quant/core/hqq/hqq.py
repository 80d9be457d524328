"""The ``hqq`` algorithm: for which weights it is, and working through one some rows at a time.

Shape suffixes: C channels of K elements each, in groups of E; R some of the channels; G some groups.
"""

import math
from collections.abc import Mapping

import attrs
import torch
from torch import Tensor, nn

from mono_quant.core.blocks import row_blocks
from mono_quant.core.encoding import channels_of, put_codes, put_qparams
from mono_quant.core.granularity import PerTensor
from mono_quant.core.hqq.splitting import split
from mono_quant.core.rounding.grid import Grid
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api.algorithm import Refinement, Statistic
from mono_quant.plugin_api.layer import QuantizedLayer
from mono_quant.plugin_api.plan import LayerPlan

__all__ = ["HQQ"]

_AT_ONCE = 2**20
"""How many weights of one group are looked at, at most, and about: so many tell its scale, and take little memory."""


class HQQ(Refinement):
    """Chooses scales and zero points of weights so that most of them are nearer to their codes. It needs no data.

    For every layer of which weights alone are quantized, to integers of 2 to 8 bits, in any granularity; but for layers
    that share a weight, which no algorithm refines. One scale for a large weight is found from a part of it.

    Args:
        power: of the errors that are summed, above 0, at most 1; with less, single large errors count for less.
        steps: how often scales and codes are found in turn, at most.
    """

    def __init__(self, *, power: float = 0.7, steps: int = 20) -> None:
        if not (isinstance(power, int | float) and 0 < power <= 1):
            raise ConfigurationError(f"power must be a number above 0 and at most 1, got {power!r}")
        if type(steps) is not int or steps < 1:
            raise ConfigurationError(f"steps must be a whole number of at least 1, got {steps!r}")
        self._power = float(power)
        self._steps = steps

    def refine(
        self, layer: nn.Module, quantized: QuantizedLayer, plan: LayerPlan, statistic: Statistic | None
    ) -> Mapping[str, Tensor]:
        """Scales, zero points, and the codes nearest by them, for each quantized weight that gains."""
        del statistic
        found: dict[str, Tensor] = {}
        for name, spec in plan.weights.items() if plan.input is None else ():
            weight, stored = layer.get_parameter(name).detach(), quantized.stored(name)
            if spec.is_scaled and not spec.dtype.is_float and weight.numel():
                better = self._better(weight, stored, spec)
                found.update({name + suffix: tensor for suffix, tensor in better.items()})
        return found

    def _better(self, weight: Tensor, stored: Mapping[str, Tensor], spec: WeightSpec) -> dict[str, Tensor]:
        """The tensors of one weight by suffix; none where no group gains."""
        weight_CK, grid = channels_of(weight, spec), Grid.of(stored, spec)
        if isinstance(spec.granularity, PerTensor):
            some_1N = _spread(weight_CK)
            one_group = attrs.evolve(grid.of_rows(slice(1)), group_size=some_1N.numel())
            scale, zero_point = self._of_rows(some_1N, one_group, spec)
        else:
            blocks = [self._of_rows(weight_CK[block], grid.of_rows(block), spec) for block in row_blocks(weight_CK)]
            scale, zero_point = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        if torch.equal(scale.expand_as(grid.scale_RG), grid.scale_RG):
            return {}
        better = {suffix: torch.empty_like(tensor) for suffix, tensor in stored.items()}
        put_qparams(better, (scale, zero_point))
        put_codes(better, weight_CK, spec)
        return better

    def _of_rows(self, weight_RK: Tensor, grid: Grid, spec: WeightSpec) -> tuple[Tensor, Tensor]:
        """Scales and zero points, ``(R, G)`` each. The last groups may be shorter: they are solved apart."""

        def solve(columns: slice, groups: slice) -> tuple[Tensor, Tensor]:
            scale_G1, zero_point_G1 = (x_RG[:, groups].reshape(-1, 1) for x_RG in (grid.scale_RG, grid.zero_point_RG))
            scale_G1, zero_point_G1 = split(
                weight_RK[:, columns].reshape(len(scale_G1), -1), scale_G1, zero_point_G1, grid.qtype,
                is_symmetric=spec.symmetric, power=self._power, steps=self._steps,
            )  # fmt: skip
            return scale_G1.view(len(weight_RK), -1), zero_point_G1.view(len(weight_RK), -1)

        whole, rest = divmod(weight_RK.shape[1], grid.group_size)
        parts = [solve(slice(whole * grid.group_size), slice(whole))]
        if rest:
            parts.append(solve(slice(-rest, None), slice(whole, None)))
        scale_RG, zero_point_RG = (torch.cat(of_parts, dim=1) for of_parts in zip(*parts, strict=True))
        return scale_RG, zero_point_RG


def _spread(weight_CK: Tensor) -> Tensor:
    """All weights, or every n-th: ``(1, N)``. No n divides the columns, so that each of these has its turn."""
    step = -(-weight_CK.numel() // _AT_ONCE)
    while math.gcd(step, weight_CK.shape[1]) > 1:
        step += 1
    return weight_CK.reshape(1, -1)[:, ::step]
