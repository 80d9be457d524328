"""How each quantized layer hands its output over: found by watching once what the model does with it."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn
from torch.utils import _pytree as pytree

from mono_quant.modules.base import is_traced
from mono_quant.modules.deferred import Deferred, plain
from mono_quant.modules.kernel_module import KernelModule
from mono_quant.modules.layer_output import Demand
from mono_quant.plugin_api.plan import Handover, LayerPlan

__all__ = ["find_handovers", "hand_over", "hand_over_floats"]

_Model = TypeVar("_Model", bound=nn.Module)

_HOOK = "mono_quant_outputs"
"""Under a key of our own, since torch's are numbers that begin anew in the process that unpickles a model."""


def find_handovers(model: nn.Module, run: Callable[[], object]) -> dict[str, Handover]:
    """What is best for each layer, by name, where it is not the plain tensor; the model is left as it was.

    Args:
        model: a quantized model.
        run: runs it on a real batch.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, KernelModule)}
    if not any(layer.takes_codes for layer in layers.values()):
        return {}
    before = {name: layer.handover for name, layer in layers.items()}
    try:
        for layer in layers.values():
            layer.handover, layer.demands = "deferred-float", set()
        run()
        demands = {name: layer.demands or set() for name, layer in layers.items()}
    finally:
        for name, layer in layers.items():
            layer.handover, layer.demands = before[name], None
    best = {name: _best(layer, demands[name]) for name, layer in layers.items()}
    return {name: handover for name, handover in best.items() if handover != "float"}


def hand_over(model: _Model, plans: Mapping[str, LayerPlan]) -> _Model:
    """The model itself, its layers handing their outputs over as planned; what leaves the model are plain tensors.

    Args:
        model: changed.
        plans: of its layers, by name.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, plan in plans.items():
        if isinstance(layer := modules[name], KernelModule):
            layer.handover = plan.handover
    if any(plan.handover != "float" for plan in plans.values()):
        model._forward_hooks[_HOOK] = _leave  # type: ignore[index]
    return model


def hand_over_floats(model: _Model) -> _Model:
    """The model itself without that."""
    model._forward_hooks.pop(_HOOK, None)  # type: ignore[call-overload]
    return model


def _best(layer: KernelModule, demands: set[Demand]) -> Handover:
    if {"activation", "before activation"} <= demands:
        return "float"  # it would be computed twice
    # A Linear's floats are laid out as any tensor.
    gains = {"activation", "codes"} if layer.kind == "linear" else {"activation", "codes", "layout"}
    if not demands & gains:
        return "float"
    return "deferred-float" if demands & {"plain", "layout"} else "deferred"


def _leave(model: nn.Module, args: tuple[Any, ...], output: Any) -> Any:  # noqa: ANN401 - any model's
    """What the model gives, with plain tensors in it."""
    del model, args
    if is_traced() or not any(isinstance(leaf, Deferred) for leaf in pytree.tree_leaves(output)):
        return None
    return pytree.tree_map_only(Deferred, plain, output)
