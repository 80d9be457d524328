"""Making the coverage ledger: one walk over the modules, each leaf and each parameter byte once."""

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import nn

from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api.plan import Keep, LayerPlan, Plan, PlanEntry, Rewrite

__all__ = ["Decide", "connected", "make_plan", "refuse_empty"]

Decide = Callable[[str, nn.Module], LayerPlan | Keep]

_READS_ITS_CHILDREN = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""Modules of torch that read the weights of layers inside them without calling those layers."""


def make_plan(model: nn.Module, decide: Decide) -> Plan:
    """The ledger of a model.

    Args:
        model: any module; nothing of it is changed.
        decide: asked for each leaf module that has parameters, with its first name.
    """
    names = _names(model)
    ties = _ties(model)
    readers = _readers(model)
    owned: set[int] = set()
    entries = []
    for name, module in model.named_modules():
        parameters = list(module.parameters(recurse=False))
        is_leaf = next(module.children(), None) is None
        if not parameters and not is_leaf:
            continue
        fresh = {id(p): p for p in parameters if id(p) not in owned}
        owned |= set(fresh)
        entries.append(
            PlanEntry(
                name=name,
                also=tuple(names[id(module)][1:]),
                layer_type=type(module).__name__,
                parameter_bytes=sum(_bytes(p) for p in fresh.values()),
                decision=_decide(name, module, decide, readers, is_leaf=is_leaf, has_parameters=bool(parameters)),
            )
        )
    return _keep_half_tied(model, Plan(entries=tuple(entries), ties=ties))


def _decide(
    name: str, module: nn.Module, decide: Decide, readers: dict[int, str], *, is_leaf: bool, has_parameters: bool
) -> LayerPlan | Keep:
    if id(module) in readers:
        return Keep(f"{readers[id(module)]} may read its weight without calling it")
    if isinstance(module, torch.jit.ScriptModule):
        return Keep("it is scripted")
    if not has_parameters:
        return Keep("it has no parameters")
    decision = decide(name, module)
    if is_leaf or isinstance(decision, Keep):
        return decision
    return Keep(f"this {type(module).__name__} has other layers inside")


def _names(model: nn.Module) -> dict[int, list[str]]:
    """All names of each module, by identity."""
    names = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        names[id(module)].append(name)
    return names


def _ties(model: nn.Module) -> dict[str, str]:
    """Each further name of a parameter → its first name, as ``named_parameters`` goes."""
    first: dict[int, str] = {}
    ties = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        kept = first.setdefault(id(parameter), name)
        if kept != name:
            ties[name] = kept
    return ties


def _readers(model: nn.Module) -> dict[int, str]:
    """Each module, by identity, inside one that reads its children's weights → that one, as text."""
    readers: dict[int, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, _READS_ITS_CHILDREN):
            inside = (id(child) for child in module.modules() if child is not module)
            readers.update(dict.fromkeys(inside, f"{type(module).__name__} {name!r}"))
    return readers


def _keep_half_tied(model: nn.Module, plan: Plan) -> Plan:
    """Keep a layer in float whose weight is tied to one that stays in float: quantized, it would be stored twice."""
    owners = defaultdict(list)
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)].append(name)
    layers = plan.layers
    reasons = {}
    for names in owners.values():
        floats = [name for name in names if name not in layers]
        for name in names if floats else ():
            if name in layers:
                reasons[name] = Keep(f"a parameter of it is tied to {floats[0]!r}, which stays in float")
    return _keep_half_tied(model, plan.decide(reasons)) if reasons else plan


def connected(rewrites: Iterable[Rewrite], name: str) -> list[Rewrite]:
    """The rewrites that bear on a layer, in order: those that name it or share a layer with one that does."""
    reached, found = {name}, -1
    while found != len(reached):
        found = len(reached)
        reached.update(*(rewrite.layers for rewrite in rewrites if reached & set(rewrite.layers)))
    return [rewrite for rewrite in rewrites if reached & set(rewrite.layers)]


def refuse_empty(plan: Plan) -> None:
    """Refuse a plan that quantizes nothing.

    Raises:
        ConfigurationError: with the reasons.
    """
    if not plan.layers:
        reasons = [f"{name or '(model)'}: {reason}" for name, reason in plan.kept.items()]
        shown = "\n  ".join(reasons[:10]) or "the model has no layers"
        raise ConfigurationError(f"nothing would be quantized:\n  {shown}")


def _bytes(tensor: torch.Tensor) -> int:
    if nn.parameter.is_lazy(tensor):
        return 0
    return tensor.numel() * tensor.element_size()
