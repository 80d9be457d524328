"""Making the coverage ledger: one walk over the modules, each leaf and each parameter byte once."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

import attrs
import torch
from torch import nn

from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api.plan import Keep, LayerPlan, Plan, PlanEntry, Rewrite

__all__ = [
    "Decide",
    "connected",
    "make_plan",
    "refuse_empty",
    "settle",
    "tied_layers",
    "with_sizes",
    "without_idle_rewrites",
]

Decide = Callable[[str, nn.Module], LayerPlan | Keep]


def make_plan(model: nn.Module, decide: Decide) -> Plan:
    """The ledger of a model.

    Args:
        model: any module; nothing of it is changed.
        decide: asked for each leaf module that has parameters, with its first name.
    """
    names = _names(model)
    ties = _ties(model)
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
                decision=_decide(name, module, decide, is_leaf=is_leaf, has_parameters=bool(parameters)),
            )
        )
    return settle(model, Plan(entries=tuple(entries), ties=ties))


def settle(model: nn.Module, plan: Plan) -> Plan:
    """The same plan without the layers that cannot be quantized since others are not.

    Raises:
        ConfigurationError: when a parameter that layers share would be quantized in two ways.
    """
    while reasons := {**_read_by_attention(model, plan), **_half_tied(model, plan)}:
        plan = plan.decide(reasons)
    _refuse_two_ways(model, plan)
    return plan


def _decide(name: str, module: nn.Module, decide: Decide, *, is_leaf: bool, has_parameters: bool) -> LayerPlan | Keep:
    if isinstance(module, torch.jit.ScriptModule):
        return Keep("it is scripted")
    if not has_parameters:
        return Keep("it has no parameters")
    decision = decide(name, module)
    if is_leaf or isinstance(decision, Keep) or isinstance(module, nn.MultiheadAttention):
        return decision
    if decision.input is None:  # the layer's own code goes on, and with it the layers inside
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


def _read_by_attention(model: nn.Module, plan: Plan) -> dict[str, Keep]:
    """Layers inside of attention whose weights would not read as float.

    ``nn.MultiheadAttention`` reads the weight of its ``out_proj`` without calling it. What the same scheme puts in
    place of both knows better, but nobody can watch the input of that layer before.
    """
    layers = plan.layers
    names = {id(module): name for name, module in model.named_modules()}
    reasons = {}
    for name, attention in model.named_modules():
        for module in attention.modules() if isinstance(attention, nn.MultiheadAttention) else ():
            inside = layers.get(names[id(module)])
            if module is attention or inside is None or inside.input is None:
                continue
            is_replaced = name in layers and layers[name].scheme == inside.scheme and module is attention.out_proj
            if not is_replaced or inside.needs_data:
                reads = f"{type(attention).__name__} {name!r} may read its weight without calling it"
                reasons[inside.name] = Keep(reads)
    return reasons


def _half_tied(model: nn.Module, plan: Plan) -> dict[str, Keep]:
    """Layers whose weight is tied to one that stays in float: quantized, it would be stored twice."""
    layers = plan.layers
    reasons = {}
    for owners in _owners(model):
        floats = [name for name, _ in owners if name not in layers]
        for name, _ in owners if floats else ():
            if name in layers:
                reasons[name] = Keep(f"a parameter of it is tied to {floats[0]!r}, which stays in float")
    return reasons


def _refuse_two_ways(model: nn.Module, plan: Plan) -> None:
    """Refuse a weight of several quantized layers of which each would store codes of its own."""
    layers = plan.layers
    for owners in _owners(model):
        ways = {(layers[name].scheme, layers[name].weights.get(role)) for name, role in owners if name in layers}
        if len(ways) > 1 and any(spec is not None for _, spec in ways):
            shared = " and ".join(repr(f"{name}.{role}".removeprefix(".")) for name, role in owners)
            raise ConfigurationError(
                f"{shared} are one tensor, which would be quantized in two ways: choose one, or keep it in float"
            )


def _owners(model: nn.Module) -> Iterable[list[tuple[str, str]]]:
    """The owners of each parameter, as names of the module and of the parameter in it."""
    owners = defaultdict(list)
    for name, module in model.named_modules():
        for role, parameter in module.named_parameters(recurse=False):
            owners[id(parameter)].append((name, role))
    return owners.values()


def connected(rewrites: Iterable[Rewrite], name: str) -> list[Rewrite]:
    """The rewrites that bear on a layer, in order: those that name it or share a layer with one that does."""
    reached, found = {name}, -1
    while found != len(reached):
        found = len(reached)
        reached.update(*(rewrite.layers for rewrite in rewrites if reached & set(rewrite.layers)))
    return [rewrite for rewrite in rewrites if reached & set(rewrite.layers)]


def without_idle_rewrites(plan: Plan, kept: Collection[str]) -> Plan:
    """The same plan without rewrites of one layer alone that is kept after all: it would be changed for nothing.

    Each rewrite keeps the function by itself. One that a later rewrite of several layers may build on stays.

    Args:
        plan: with rewrites.
        kept: layers that were to be quantized when the rewrites were found.
    """
    needed: list[Rewrite] = []
    for rewrite in reversed(plan.rewrites):
        is_built_on = any(rewrite.layers[0] in later.layers for later in needed if len(later.layers) > 1)
        if len(rewrite.layers) > 1 or rewrite.layers[0] not in kept or is_built_on:
            needed.append(rewrite)
    return attrs.evolve(plan, rewrites=tuple(reversed(needed)))


def tied_layers(plan: Plan) -> set[str]:
    """Names of the layers that share a parameter with another one."""
    return {tensor.rpartition(".")[0] for pair in plan.ties.items() for tensor in pair}


def refuse_empty(plan: Plan) -> None:
    """Refuse a plan that quantizes nothing.

    Raises:
        ConfigurationError: with the reasons.
    """
    if not plan.layers:
        reasons = [f"{name or '(model)'}: {reason}" for name, reason in plan.kept.items()]
        shown = "\n  ".join(reasons[:10]) or "the model has no layers"
        raise ConfigurationError(f"nothing would be quantized:\n  {shown}")


def with_sizes(decisions: Mapping[str, LayerPlan], layers: Mapping[str, nn.Module]) -> dict[str, LayerPlan]:
    """The decisions with the bytes that their quantized layers take; a tensor that several have counts in the first."""
    sized: dict[str, LayerPlan] = {}
    owned: set[int] = set()
    for name, decision in decisions.items():
        own = [*layers[name].parameters(recurse=False), *layers[name].buffers(recurse=False)]
        fresh = {id(tensor): tensor for tensor in own if id(tensor) not in owned}
        owned |= set(fresh)
        sized[name] = attrs.evolve(decision, quantized_bytes=sum(_bytes(tensor) for tensor in fresh.values()))
    return sized


def _bytes(tensor: torch.Tensor) -> int:
    if nn.parameter.is_lazy(tensor):
        return 0
    return tensor.numel() * tensor.element_size()
