"""What a scheme decides for each layer, and the ledger of all those decisions."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import attrs
from attrs.validators import instance_of
from torch import Tensor

from mono_quant.core.tensor_spec import TensorSpec, WeightSpec

__all__ = ["Handover", "Keep", "LayerPlan", "Plan", "PlanEntry", "Removed", "Rewrite", "TensorSpec", "WeightSpec"]


Handover = Literal["float", "deferred", "deferred-float"]
"""How a layer hands its output over: a float tensor; or one that is computed when it is used, as codes where codes are
asked for; or such a one whose codes are made of floats, since those are asked for too."""


@attrs.frozen(kw_only=True)
class LayerPlan:
    """A scheme's decision to quantize a layer.

    Args:
        name: qualified name of the layer in its model.
        layer_type: class name of the float layer; empty where only tensors were known.
        scheme: registry name of the scheme.
        weights: parameter name → how it is stored.
        input: how the input is quantized; None when it stays float.
        quantized_bytes: bytes that the quantized layer will take in memory and on disk.
        handover: how its output is handed over; found by watching what the model does with it.
    """

    name: str
    layer_type: str
    scheme: str
    weights: dict[str, WeightSpec]
    input: TensorSpec | None
    quantized_bytes: int
    handover: Handover = "float"

    @property
    def needs_data(self) -> bool:
        """Whether the range of its input must be known before it can be converted."""
        return self.input is not None and not self.input.is_dynamic


@attrs.frozen
class Keep:
    """A scheme's decision to leave a layer in float.

    Args:
        reason: why, as a clause that can follow "kept in float: ".
    """

    reason: str = attrs.field(validator=instance_of(str))


@attrs.frozen
class Removed:
    """A layer that a rewrite makes superfluous: another layer does its work.

    Args:
        into: the layer that does it now.
        algorithm: registry name of the algorithm.
    """

    into: str
    algorithm: str


@attrs.frozen(kw_only=True)
class Rewrite:
    """A change of the float model that keeps its function, found by an algorithm.

    Args:
        algorithm: registry name of the algorithm.
        layers: qualified names of the layers that it changes, in the algorithm's own order.
        removed: those of them that become ``nn.Identity``, each with the layer that does its work now.
        values: numbers that were found from data, by the algorithm's own names. They are not written into files, which
            have the tensors that were made of them.
    """

    algorithm: str
    layers: tuple[str, ...]
    removed: dict[str, str]
    values: Mapping[str, Tensor] = attrs.field(factory=dict, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class PlanEntry:
    """One line of the ledger: a module that owns parameters, or a leaf module.

    Args:
        name: its first qualified name (``""`` for the model itself).
        also: its other names, when the module is used in several places.
        layer_type: class name.
        parameter_bytes: bytes of its parameters that no earlier entry owns.
        decision: what is done with it.
    """

    name: str
    also: tuple[str, ...] = ()
    layer_type: str
    parameter_bytes: int
    decision: LayerPlan | Keep | Removed

    @property
    def bytes_after(self) -> int:
        """Bytes of its tensors in the quantized model; for a layer kept in float, of its parameters."""
        if isinstance(self.decision, LayerPlan):
            return self.decision.quantized_bytes
        return 0 if isinstance(self.decision, Removed) else self.parameter_bytes


@attrs.frozen(kw_only=True)
class Plan:
    """The coverage ledger: every leaf module and every parameter byte of a model, once.

    Args:
        entries: one for each leaf module and each module with parameters of its own, in ``named_modules`` order.
        rewrites: changes of the float model that come first.
        ties: tensor name → the name under which the shared tensor is stored.
    """

    entries: tuple[PlanEntry, ...]
    rewrites: tuple[Rewrite, ...] = ()
    ties: dict[str, str] = attrs.field(factory=dict)

    @property
    def layers(self) -> dict[str, LayerPlan]:
        """The layers to be quantized, by name."""
        return {entry.name: entry.decision for entry in self.entries if isinstance(entry.decision, LayerPlan)}

    @property
    def kept(self) -> dict[str, str]:
        """The layers left in float, name → reason."""
        return {entry.name: entry.decision.reason for entry in self.entries if isinstance(entry.decision, Keep)}

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all parameters of the float model."""
        return sum(entry.parameter_bytes for entry in self.entries)

    @property
    def removed(self) -> dict[str, Removed]:
        """The layers whose work another layer does now, by name."""
        return {entry.name: entry.decision for entry in self.entries if isinstance(entry.decision, Removed)}

    def decide(self, decisions: Mapping[str, LayerPlan | Keep | Removed]) -> "Plan":
        """The same plan with other decisions for some layers, by name."""
        return attrs.evolve(
            self,
            entries=tuple(
                attrs.evolve(entry, decision=decisions.get(entry.name, entry.decision)) for entry in self.entries
            ),
        )

    def rewrite(self, rewrites: Iterable[Rewrite]) -> "Plan":
        """The same plan with rewrites; a layer that one of them removes says where its work is done."""
        rewrites = tuple(rewrites)
        removed = {name: Removed(into, r.algorithm) for r in rewrites for name, into in r.removed.items()}
        return attrs.evolve(self.decide(removed), rewrites=rewrites)

    def __str__(self) -> str:
        return "\n".join(_table(self))


def _decision_text(decision: LayerPlan | Keep | Removed) -> str:
    if isinstance(decision, LayerPlan):
        weights = " and ".join(dict.fromkeys(map(str, decision.weights.values())))
        return f"{decision.scheme}: weight {weights}, input {decision.input or 'float'}"
    if isinstance(decision, Removed):
        return f"folded into {decision.into} by {decision.algorithm}"
    return f"float: {decision.reason}"


def _table(plan: Plan) -> Iterator[str]:
    """The ledger as text: one line an entry, then the sums."""
    rows = [
        ("layer", "type", "float bytes", "after", "decision"),
        *(
            (
                entry.name + "".join(f" = {name}" for name in entry.also) or "(model)",
                entry.layer_type,
                f"{entry.parameter_bytes:,}",
                f"{entry.bytes_after:,}",
                _decision_text(entry.decision),
            )
            for entry in plan.entries
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for name, kind, before, after, decision_text in rows:
        yield (
            f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {before:>{widths[2]}}  {after:>{widths[3]}}  {decision_text}"
        )
    after_total = sum(entry.bytes_after for entry in plan.entries)
    yield (
        f"{len(plan.layers)} of {len(plan.entries)} layers quantized; parameters {plan.parameter_bytes:,} bytes "
        f"in float, {after_total:,} after"
    )
