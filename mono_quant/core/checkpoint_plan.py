"""Planning without a module: what a scheme does with each tensor of a checkpoint, by its name and shape."""

from collections.abc import Callable, Mapping

import attrs
from torch import Tensor

from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api.plan import Keep, LayerPlan, Plan, PlanEntry, WeightSpec

__all__ = ["joined", "layer_and_parameter", "plan_tensors", "without_half_tied"]

Decision = tuple[str, WeightSpec] | Keep
PlanTensor = Callable[[str, Tensor], Decision]


def plan_tensors(shapes: Mapping[str, Tensor], ties: Mapping[str, str], decide: PlanTensor) -> Plan:
    """The ledger of a checkpoint: one entry for each layer that has quantized weights, one for each tensor kept.

    Args:
        shapes: tensor name → a tensor of its dtype and shape on ``meta``.
        ties: further name → first name of one tensor.
        decide: asked for each tensor by its name; gives the scheme's name and how to store it, or the reason not to.

    Raises:
        ConfigurationError: when a layer, or a tensor of several names, would be quantized in two ways.
    """
    decisions = _settled({name: decide(name, tensor) for name, tensor in shapes.items()}, ties)
    entries: dict[tuple[type, str], PlanEntry] = {}  # a tensor may have the name of a layer
    for name, tensor in shapes.items():
        nbytes = 0 if name in ties else tensor.nbytes
        decision = decisions[name]
        if isinstance(decision, Keep):
            entries[Keep, name] = PlanEntry(name=name, layer_type="", parameter_bytes=nbytes, decision=decision)
            continue
        layer, parameter = layer_and_parameter(name)
        entries[LayerPlan, layer] = _with_weight(
            entries.get((LayerPlan, layer)), layer, parameter, *decision, nbytes=nbytes
        )
    return Plan(entries=tuple(entries.values()), ties=dict(ties))


def without_half_tied(plan: Plan) -> Plan:
    """The same plan without layers that share a weight with one that is kept: it would be stored twice."""

    def is_quantized(tensor: str) -> bool:
        layer, parameter = layer_and_parameter(tensor)
        return layer in plan.layers and parameter in plan.layers[layer].weights

    while torn := [pair for pair in plan.ties.items() if is_quantized(pair[0]) != is_quantized(pair[1])]:
        torn = [pair if is_quantized(pair[0]) else pair[::-1] for pair in torn]
        plan = plan.decide(
            {
                layer_and_parameter(name)[0]: Keep(f"{name!r} is one tensor with {kept!r}, which stays in float")
                for name, kept in torn
            }
        )
    return plan


def layer_and_parameter(name: str) -> tuple[str, str]:
    """A tensor's name as its layer's name and the parameter's.

    >>> layer_and_parameter("encoder.fc.weight"), layer_and_parameter("weight")
    (('encoder.fc', 'weight'), ('', 'weight'))
    """
    layer, _, parameter = name.rpartition(".")
    return layer, parameter


def joined(layer: str, parameter: str) -> str:
    """The other way round."""
    return f"{layer}.{parameter}" if layer else parameter


def _settled(decisions: dict[str, Decision], ties: Mapping[str, str]) -> dict[str, Decision]:
    """The same for all names of a tensor: it stays in float when one of them does."""
    names: dict[str, list[str]] = {}
    for name, first in ties.items():
        names.setdefault(first, [first]).append(name)
    for one in names.values():
        floats = [name for name in one if isinstance(decisions[name], Keep)]
        if floats:
            reason = Keep(f"it is one tensor with {floats[0]!r}, which stays in float")
            decisions |= dict.fromkeys((name for name in one if name not in floats), reason)
        elif any(decisions[name] != decisions[one[0]] for name in one):
            shared = " and ".join(map(repr, one))
            raise ConfigurationError(
                f"{shared} are one tensor, which would be quantized in two ways: choose one, or keep it in float"
            )
    return decisions


def _with_weight(
    entry: PlanEntry | None, layer: str, parameter: str, scheme: str, spec: WeightSpec, *, nbytes: int
) -> PlanEntry:
    """The entry of a layer with one more weight in it."""
    before = entry.decision if entry is not None else None
    weights = before.weights if isinstance(before, LayerPlan) else {}
    if isinstance(before, LayerPlan) and before.scheme != scheme:
        raise ConfigurationError(
            f"layer {layer or '(model)'!r} would be quantized by {before.scheme} and by {scheme}: choose one"
        )
    decision = LayerPlan(
        name=layer,
        layer_type="",
        scheme=scheme,
        weights={**weights, parameter: spec},
        input=None,
        quantized_bytes=(before.quantized_bytes if isinstance(before, LayerPlan) else 0)
        + (spec.nbytes if nbytes else 0),
    )
    if entry is None:
        return PlanEntry(name=layer, layer_type="", parameter_bytes=nbytes, decision=decision)
    return attrs.evolve(entry, parameter_bytes=entry.parameter_bytes + nbytes, decision=decision)
