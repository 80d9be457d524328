"""The ``smoothquant`` algorithm: where a layer's input is divided, and what multiplies in turn."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from mono_quant.core.plan import tied_layers
from mono_quant.core.smoothing.factor import Reader, best_divisor
from mono_quant.core.smoothing.input_channels import InputChannels
from mono_quant.core.smoothing.scaled_module import SomeRows, may_scale, scaled
from mono_quant.core.tensor_spec import TensorSpec
from mono_quant.errors import ConfigurationError
from mono_quant.modules import SmoothedLinear
from mono_quant.plugin_api.algorithm import Algorithm, DataFlow, Statistic
from mono_quant.plugin_api.plan import LayerPlan, Plan, Rewrite

__all__ = ["SmoothQuant"]

_NAME = "smoothquant"
_FACTOR = "input_factor"
_GRID = tuple(step / 20 for step in range(21))


class SmoothQuant(Algorithm):
    """Evens out the channels of the inputs of ``nn.Linear``.

    Where the watched flow proves that all who read the module before are such layers, and that module's output scales
    with its ``weight`` and ``bias``, as a norm's does, these take the factor, which then costs nothing. Elsewhere
    the layer multiplies its input itself. Layers whose noise would not fall by a tenth stay as they are.

    Args:
        alpha: how much of the spread goes over to the weights, from 0 to 1; ``"auto"`` chooses for each layer.
        insert: whether layers may multiply their own inputs, where nothing before them can take the factor.
    """

    changes_inputs = True

    def __init__(self, *, alpha: float | Literal["auto"] = "auto", insert: bool = True) -> None:
        if alpha != "auto" and not (isinstance(alpha, int | float) and 0 <= alpha <= 1):
            raise ConfigurationError(f'alpha must be "auto" or from 0 to 1, got {alpha!r}')
        self._alphas = _GRID if alpha == "auto" else (float(alpha),)
        self._insert = insert

    def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
        """The channels of what is quantized, and some rows for what might take a factor."""
        del name
        if plan is not None:
            return InputChannels() if type(module) is nn.Linear and plan.input is not None else None
        return SomeRows() if may_scale(module) else None

    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        """One rewrite for each module that takes a factor with its readers, and for each layer that has its own."""
        layers = _Layers(modules, plan, flow)
        found: list[Rewrite] = []
        for name, module in modules.items():
            rows, readers = flow.statistic(name), flow.consumers(name)
            if isinstance(rows, SomeRows) and layers.can_be_smoothed(readers) and not layers.are_bound(name, *readers):
                factor = self._factor(layers, readers)
                if factor is not None and rows.prove(module, factor):
                    found.append(
                        Rewrite(algorithm=_NAME, layers=(name, *readers), removed={}, values={_FACTOR: factor})
                    )
        done = {layer for rewrite in found for layer in rewrite.layers}
        for names in layers.by_input(set(plan.layers) - done) if self._insert else ():
            factor = self._factor(layers, names)
            if factor is not None:
                found += [
                    Rewrite(algorithm=_NAME, layers=(name,), removed={}, values={_FACTOR: factor}) for name in names
                ]
        return found

    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """The module before with the factor and its readers with what undoes it; or a layer that has its own."""
        factor = rewrite.values.get(_FACTOR)
        *before, last = rewrite.layers
        if not before:
            return {last: _with_own(cast("nn.Linear", modules[last]), factor)}
        if factor is None:  # a file is loaded, which has the tensors: no layer becomes one of another kind
            return {}
        first, *readers = rewrite.layers
        undone = {name: _undoing(cast("nn.Linear", modules[name]), factor) for name in readers}
        return {first: scaled(modules[first], factor), **undone}

    def _factor(self, layers: "_Layers", readers: Sequence[str]) -> Tensor | None:
        """What the input of these layers is to be multiplied by, float32 ``(K,)``; None for nothing."""
        s_K = best_divisor(layers.inputs(readers[0]), [layers.reader(name) for name in readers], self._alphas)
        return None if s_K is None else s_K.reciprocal().float()


class _Layers:
    """What is known of the layers that may be smoothed."""

    def __init__(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> None:
        self._modules = modules
        self._plans = plan.layers
        self._flow = flow
        self._tied = tied_layers(plan)
        self._used_twice = {entry.name for entry in plan.entries if entry.also}

    def can_be_smoothed(self, readers: Sequence[str]) -> bool:
        """Whether these are layers whose inputs were seen and whose weights are their own; at least one."""
        return bool(readers) and all(map(self._can_be, readers))

    def by_input(self, names: Collection[str]) -> list[tuple[str, ...]]:
        """Those of the layers that can be smoothed, together where they were given the same.

        One factor for all of them is as right as one for each, and a runtime can multiply once.
        """
        groups: dict[bytes, list[str]] = {}
        for name in self._plans:
            if name in names and self.can_be_smoothed((name,)):
                groups.setdefault(self.inputs(name).fingerprint, []).append(name)
        return [tuple(group) for group in groups.values()]

    def are_bound(self, before: str, *readers: str) -> bool:
        """Whether their tensors or calls are those of something else too, or hooks look at what passes between them."""
        hooks = [
            *self._modules[before]._forward_hooks,  # noqa: SLF001 - torch has no public way to ask
            *(hook for name in (before, *readers) for hook in self._modules[name]._forward_pre_hooks),  # noqa: SLF001
        ]
        return bool(hooks) or not (self._tied | self._used_twice).isdisjoint((before, *readers))

    def inputs(self, name: str) -> InputChannels:
        """What was seen of the input of one of them."""
        return cast("InputChannels", self._flow.statistic(name))

    def reader(self, name: str) -> Reader:
        """One of them, as its noise is computed."""
        plan = self._plans[name]
        weight = cast("nn.Linear", self._modules[name]).weight.detach()
        return weight, plan.weights["weight"], cast("TensorSpec", plan.input)

    def _can_be(self, name: str) -> bool:
        seen = self._flow.statistic(name)
        return isinstance(seen, InputChannels) and seen.is_usable and name in self._plans and name not in self._tied


def _with_own(layer: nn.Linear, factor: Tensor | None) -> SmoothedLinear:
    """The layer that multiplies its input itself; without numbers where a file has them."""
    weight = layer.weight.detach()
    if factor is None:
        return SmoothedLinear.of(layer, weight, torch.empty(layer.in_features, device=weight.device))
    return SmoothedLinear.of(layer, _divided(weight, factor), factor.to(weight.device))


def _undoing(layer: nn.Linear, factor: Tensor) -> nn.Linear:
    """A layer of the same function for an input that was multiplied."""
    copied = copy.copy(layer)
    weight = nn.Parameter(_divided(layer.weight.detach(), factor), requires_grad=False)
    copied._parameters = {**layer._parameters, "weight": weight}  # noqa: SLF001 - a shallow copy shares this table
    return copied


def _divided(weight: Tensor, factor: Tensor) -> Tensor:
    return (weight.double() / factor.to(weight.device).double()).to(weight.dtype)
