"""Giving quantized layers the better tensors that algorithms find for them."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mono_quant.calibration.state import untouched
from mono_quant.core.weights import is_pair_safe
from mono_quant.errors import ConfigurationError, PluginError
from mono_quant.modules import KernelModule
from mono_quant.plugin_api import Algorithm, LayerPlan, QuantizedLayer, Statistic

__all__ = ["refine", "refines"]


def refines(algorithm: Algorithm) -> bool:
    """Whether an algorithm has refinements of its own."""
    return type(algorithm).refine is not Algorithm.refine


def refine(
    layer: nn.Module,
    quantized: nn.Module,
    plan: LayerPlan,
    algorithms: Iterable[tuple[str, Algorithm]],
    collected: Mapping[str, Mapping[str, Statistic]],
) -> None:
    """Have each algorithm refine a layer that was just quantized, in order; its tensors are changed in place.

    Args:
        layer: the float layer.
        quantized: what a scheme made of it; of another class than `QuantizedLayer` it is left as it is.
        plan: how.
        algorithms: by name.
        collected: algorithm → layer → what was collected.

    Raises:
        ConfigurationError: when one comes too late: it chooses codes after another has corrected the bias for others,
            or scales after another has chosen codes for others.
        PluginError: when an algorithm gives tensors that cannot take the place of others.
    """
    if not isinstance(quantized, QuantizedLayer):
        return
    order = _Order(plan)
    for name, algorithm in algorithms:
        if refines(algorithm):
            statistic = collected.get(name, {}).get(plan.name)
            who = f"algorithm {name!r}, which refines layer {plan.name!r},"
            with untouched(who, layer, quantized, copied=True):
                found = algorithm.refine(layer, quantized, plan, statistic)
            if not isinstance(found, Mapping):
                raise PluginError(f"{who} gave {found!r}: it has to give tensors by name, none of them for no change")
            order.check(name, found)
            _put(found, quantized, f"algorithm {name!r} refines layer {plan.name or '(model)'!r}")


class _Order:
    """Who has found what for a layer: a bias is right for the codes that there were, and codes for their scales."""

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        self._corrected_by = ""
        self._chosen_by: dict[str, str] = {}  # by weight

    def check(self, name: str, found: Mapping[str, Tensor]) -> None:
        """Take note of what an algorithm found, or refuse it."""
        layer = self._plan.name or "(model)"
        for weight in self._plan.weights:
            gives_scales = not found.keys().isdisjoint((f"{weight}_scale", f"{weight}_zero_point"))
            chosen_by = self._chosen_by.get(weight)
            if self._corrected_by and (gives_scales or weight in found):
                raise ConfigurationError(
                    f"algorithm {name!r} chooses codes for layer {layer!r}, whose bias {self._corrected_by!r} "
                    f"has corrected for other ones: name {name!r} before {self._corrected_by!r}"
                )
            if chosen_by and gives_scales:
                raise ConfigurationError(
                    f"algorithm {name!r} chooses scales for layer {layer!r}, whose codes {chosen_by!r} "
                    f"has chosen for other ones: name {name!r} before {chosen_by!r}"
                )
            if weight in found and not gives_scales:
                self._chosen_by[weight] = name
        if "bias" in found:
            self._corrected_by = name


def _put(found: Mapping[str, Tensor], quantized: QuantizedLayer, what: str) -> None:
    own = {**dict(quantized.named_parameters(recurse=False)), **dict(quantized.named_buffers(recurse=False))}
    for name, tensor in found.items():
        if name not in own:
            raise PluginError(f"{what} with {name!r}, which it has not; it has {', '.join(own)}")
        if (tensor.shape, tensor.dtype) != (own[name].shape, own[name].dtype):
            raise PluginError(
                f"{what} with a {name!r} of shape {list(tensor.shape)} and {tensor.dtype} in place of "
                f"{list(own[name].shape)} and {own[name].dtype}"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise PluginError(f"{what} with a {name!r} that is not finite")
    codes = found.get("weight")
    was_safe = codes is not None and isinstance(quantized, KernelModule) and is_pair_safe(quantized.weight)
    if codes is not None and was_safe and not is_pair_safe(codes):
        raise PluginError(f"{what} with codes that some CPUs would add up wrongly; see mono_quant.core.weights")
    with torch.no_grad():
        for name, tensor in found.items():
            own[name].copy_(tensor)
