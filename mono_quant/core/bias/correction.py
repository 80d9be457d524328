"""The ``bias-correction`` algorithm: which layers it corrects, and which get a bias for it."""

import copy
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mono_quant.core.bias.input_windows import InputWindows
from mono_quant.core.bias.shift import correction, shift
from mono_quant.core.bias.window_sample import WindowSample
from mono_quant.core.granularity import PerTensor, PerToken
from mono_quant.core.plan import tied_layers
from mono_quant.core.schemes.layers import LINEAR_AND_CONV, overridden
from mono_quant.modules import SmoothedLinear
from mono_quant.plugin_api.algorithm import Algorithm, DataFlow, Statistic
from mono_quant.plugin_api.layer import QuantizedLayer
from mono_quant.plugin_api.plan import LayerPlan, Plan, Rewrite

__all__ = ["BiasCorrection"]

_KINDS = (SmoothedLinear, *LINEAR_AND_CONV)
_WORTH_IT = 0.1
"""The least part of the power of an input that is in its mean where a layer gets a bias: so much of the noise of
rounded weights, which are off independently of each other, a bias can take away."""


class BiasCorrection(Algorithm):
    """Adds to the bias what quantization takes from the mean of each output channel, where held-back data agree.

    For ``nn.Linear`` and ``nn.Conv1d/2d/3d``. Each layer is corrected for its own error, given the inputs that it has
    in the float model.

    Args:
        create: whether a layer without a bias gets one, where that can be worth it.
    """

    def __init__(self, *, create: bool = True) -> None:
        self._create = create

    def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
        """The windows of what is quantized."""
        del name
        is_known = plan is not None and set(plan.weights) == {"weight"} and _is_of_known_function(module)
        return InputWindows(module, keeps_windows=plan.input is not None) if plan is not None and is_known else None

    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        """One rewrite for each layer that gets a bias, of zeros at first."""
        tied = tied_layers(plan)
        found: list[Rewrite] = []
        for name in plan.layers if self._create else ():
            seen = flow.statistic(name)
            if (
                isinstance(seen, InputWindows)
                and name not in tied
                and modules[name].bias is None
                and seen.is_usable
                and seen.fitted.mean_share >= _WORTH_IT
            ):
                found.append(Rewrite(algorithm="bias-correction", layers=(name,), removed={}))
        return found

    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """The layer with a bias."""
        (name,) = rewrite.layers
        layer = modules[name]
        copied = copy.copy(layer)
        weight = cast("Tensor", layer.weight)
        bias = nn.Parameter(weight.new_zeros(weight.shape[0]), requires_grad=False)
        copied._parameters = {**layer._parameters, "bias": bias}  # noqa: SLF001 - a shallow copy shares this table
        return {name: copied}

    def refine(
        self, layer: nn.Module, quantized: QuantizedLayer, plan: LayerPlan, statistic: Statistic | None
    ) -> Mapping[str, Tensor]:
        """The bias, corrected."""
        del plan
        bias = quantized._parameters.get("bias")  # noqa: SLF001 - a bias that is computed is not corrected
        spec = quantized.input_spec
        is_known = spec is None or isinstance(spec.granularity, PerTensor | PerToken)
        if bias is None or not is_known or not isinstance(statistic, InputWindows) or not statistic.is_usable:
            return {}
        weight, rounded = cast("Tensor", layer.weight).detach(), quantized.dequantized("weight").detach()
        groups = cast("int", getattr(layer, "groups", 1))

        def shift_of(part: WindowSample) -> Tensor:
            rounding = None if spec is None else part.rounding_error(spec, quantized.input_qparams)
            return shift(weight, rounded, part.mean, rounding, groups=groups)

        parts = (statistic.fitted, statistic.held_back)
        fitted, held_back = map(shift_of, parts)
        everything = (fitted * parts[0].count + held_back * parts[1].count) / (parts[0].count + parts[1].count)
        corrected = bias.detach().double() + correction(fitted, held_back, everything)
        return {"bias": corrected.to(bias.dtype)} if bool(torch.isfinite(corrected.to(bias.dtype)).all()) else {}


def _is_of_known_function(module: nn.Module) -> bool:
    """Whether a layer multiplies its weight by the windows of its input and does nothing else."""
    base = next((kind for kind in _KINDS if isinstance(module, kind)), None)
    own = module._parameters  # noqa: SLF001 - what is computed, as by a parametrization, is not in this table
    return base is not None and not overridden(module, base) and {"weight", "bias"} <= own.keys()
