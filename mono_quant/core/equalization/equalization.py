"""The ``cross-layer-equalization`` algorithm: which layers form chains, and what is multiplied and divided in them."""

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from mono_quant.core.equalization.divisors import best_divisors
from mono_quant.core.equalization.input_ranges import InputRanges
from mono_quant.core.equalization.link import Link
from mono_quant.core.granularity import PerTensor
from mono_quant.core.plan import tied_layers
from mono_quant.core.scaling import channel_axis
from mono_quant.core.schemes.layers import LINEAR_AND_CONV
from mono_quant.core.smoothing.scaled_layer import (
    THROUGH,
    is_finite,
    is_scaled_by_rows,
    may_scale_channels,
    scaled_channels,
)
from mono_quant.plugin_api.algorithm import Algorithm, DataFlow, Statistic
from mono_quant.plugin_api.plan import LayerPlan, Plan, Rewrite

__all__ = ["CrossLayerEqualization"]

_NAME = "cross-layer-equalization"


class CrossLayerEqualization(Algorithm):
    """Makes the channels between layers alike, where the watched flow proves that nothing but these layers notices.

    Of ``nn.Linear`` and ``nn.Conv1d/2d/3d``, depthwise ones too. A chain whose noise would not fall by a tenth stays as
    it is, and so do layers that share weights, are used twice, or have hooks.
    """

    changes_inputs = True

    def statistic(self, name: str, module: nn.Module, plan: LayerPlan | None) -> Statistic | None:
        """The channels of what is quantized."""
        del name
        axis = channel_axis(module)
        is_known = plan is not None and set(plan.weights) == {"weight"} and type(module) in LINEAR_AND_CONV
        return InputRanges(axis) if is_known and axis is not None else None

    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        """One rewrite for each chain, its layers in their order."""
        layers = _Layers(modules, plan, flow)
        found: list[Rewrite] = []
        for chain in layers.chains():
            divisors = best_divisors([layers.link(name) for name in chain])
            if divisors is not None:
                values = {name: s.float() for name, s in zip(chain[1:], divisors, strict=True)}
                rewrite = Rewrite(algorithm=_NAME, layers=tuple(chain), removed={}, values=values)
                if all(map(is_finite, self.apply(rewrite, modules).values())):
                    found.append(rewrite)
        return found

    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        """The layers, scaled; nothing where a file has their tensors."""
        if not rewrite.values:
            return {}
        chain = rewrite.layers
        return {
            name: scaled_channels(modules[name], rewrite.values.get(name), rewrite.values.get(after))
            for name, after in zip(chain, (*chain[1:], ""), strict=True)
        }


class _Layers:
    """What is known of the layers that may be equalized."""

    def __init__(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> None:
        self._modules = modules
        self._plans = plan.layers
        self._flow = flow
        self._bound = tied_layers(plan) | {entry.name for entry in plan.entries if entry.also}

    def chains(self) -> list[list[str]]:
        """All that are of two layers or more, as long as they can be."""
        after = {name: follower for name in self._plans if self._may(name) and (follower := self._next(name))}
        starts = [name for name in after if name not in set(after.values())]
        chains = []
        for start in starts:
            chain = [start]
            while chain[-1] in after:
                chain.append(after[chain[-1]])
            chains.append(chain)
        return chains

    def link(self, name: str) -> Link:
        """One of them as the formulas take it."""
        plan, layer = self._plans[name], self._modules[name]
        seen = cast("InputRanges", self._flow.statistic(name))
        specs = (plan.weights["weight"], plan.input)
        weight = cast("Tensor", layer.weight)
        return Link.of(weight, cast("int", getattr(layer, "groups", 1)), specs, (*seen.range, seen.mean_square))

    def _next(self, name: str) -> str | None:
        """The layer that follows in a chain."""
        follower = self._flow.follower(name)
        while follower is not None and type(self._modules[follower]) in THROUGH and not self._is_bound(follower):
            follower = self._flow.follower(follower)
        return follower if follower is not None and self._may(follower) else None

    def _may(self, name: str) -> bool:
        plan, module, seen = self._plans.get(name), self._modules[name], self._flow.statistic(name)
        if plan is None or not may_scale_channels(module) or self._is_bound(name):
            return False
        spec = plan.weights["weight"]
        is_by_rows = isinstance(spec.granularity, PerTensor) or is_scaled_by_rows(spec)
        return is_by_rows and isinstance(seen, InputRanges) and seen.is_usable

    def _is_bound(self, name: str) -> bool:
        """Whether a module's tensors or outputs are those of something else too, or hooks look at it."""
        module = self._modules[name]
        hooks = module._forward_hooks or module._forward_pre_hooks  # noqa: SLF001 - torch has no public way to ask
        return name in self._bound or bool(hooks)
