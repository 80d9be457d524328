"""What a report tells: collected from what a validator may look at, and what it could not find."""

import math
from collections.abc import Iterator

import attrs
from mono_quant.plugin_api import LayerPlan, Plan, PlanEntry, QuantizedLayer, Removed, ValidationContext
from torch import Tensor, nn

from mono_quant_report.figures import (
    Ends,
    Histogram,
    Weight,
    channel_ends,
    code_ends,
    histogram,
    input_code_ends,
    sqnr,
    total_bytes,
)
from mono_quant_report.inputs import SeenInput, watch_inputs
from mono_quant_report.text import name_of, printable

__all__ = ["Contents", "Drawn", "DrawnWeight", "Row", "collect"]


@attrs.frozen(kw_only=True)
class Row:
    """One quantized layer.

    Args:
        name: of the layer.
        kind: class of the float layer, or of the quantized one.
        how: how weights and input are stored.
        before: bytes of its float parameters; None when the plan is not known.
        after: bytes of its tensors.
        sqnr: of its weights, in dB; None when it is not known.
    """

    name: str
    kind: str
    how: str
    before: int | None
    after: int
    sqnr: float | None


@attrs.frozen(kw_only=True, eq=False)
class DrawnWeight:
    """What is drawn of one parameter.

    Args:
        name: of the parameter.
        histogram: of the float weight and of what its codes stand for.
        channels: ends of each channel of the float weight; of the decoded one when that is not known.
        codes: ends of what the codes express; None for half-precision numbers.
    """

    name: str
    histogram: Histogram
    channels: Ends
    codes: Ends | None


@attrs.frozen(kw_only=True, eq=False)
class Drawn:
    """What is drawn of a layer.

    Args:
        row: its line in the table.
        number: of that line, from 1.
        weights: its parameters.
        notes: what is not drawn, and why.
        seen: its input on the batch, or None.
        input_codes: ends of what the codes of its input express; None when there are no fixed ones.
        input_kind: how its input is quantized, in words.
    """

    row: Row
    number: int
    weights: list[DrawnWeight]
    notes: list[str]
    seen: SeenInput | None
    input_codes: tuple[float, float] | None
    input_kind: str


@attrs.frozen(kw_only=True, eq=False)
class Contents:
    """All of a report.

    Args:
        rows: quantized layers in the order of the model.
        others: the other layers: name, class, bytes, and why they stay in float or where they have gone.
        before: bytes of the float model's parameters and buffers.
        after: of the quantized model's.
        drawn: the worst layers.
        notes: what is lacking.
    """

    rows: list[Row]
    others: list[tuple[str, str, int, str]]
    before: int
    after: int
    drawn: list[Drawn]
    notes: list[str]


def collect(context: ValidationContext, count: int) -> Contents:
    """Look at everything once; the weights of one layer at a time.

    Args:
        context: what a validator gets.
        count: how many layers to draw: those with the lowest SQNR.
    """
    notes = [] if context.plan is not None else ["the plan is not known: no reasons, and no sizes of float layers"]
    modules = {n: module for n, module in context.quantized.named_modules() if isinstance(module, QuantizedLayer)}
    rows = list(_rows(context, modules))
    if not rows:
        notes.append("no layer is quantized")
    unknown = sum(row.sqnr is None for row in rows)
    if unknown:
        notes.append(f"{unknown} of {len(rows)} layers have no SQNR: their float weights are not known")
    worst = sorted((n for n, row in enumerate(rows) if row.name in modules), key=lambda n: (_rank(rows[n].sqnr), n))
    chosen = worst[:count]
    seen, note = _inputs(context, [rows[n].name for n in chosen])
    notes.extend(note)
    drawn = [_drawn(context, modules[rows[n].name], rows[n], n + 1, seen) for n in chosen]
    return Contents(
        rows=rows,
        others=[] if context.plan is None else list(_others(context.plan)),
        before=total_bytes(context.original),
        after=total_bytes(context.quantized),
        drawn=drawn,
        notes=notes,
    )


def _rank(value: float | None) -> float:
    """Worst first: what is not finite, then the lowest, then what is not known."""
    if value is None:
        return math.inf
    return -math.inf if math.isnan(value) else value


def _rows(context: ValidationContext, modules: dict[str, QuantizedLayer]) -> Iterator[Row]:
    entries = {} if context.plan is None else {e.name: e for e in context.plan.entries if e.name in context.plan.layers}
    for name in [*entries, *(name for name in modules if name not in entries)]:
        module = modules.get(name)
        weights = [] if module is None else _weights(module, context.float_layer(name))
        yield _row(name, module, entries.get(name), sqnr(weights))


def _row(name: str, module: QuantizedLayer | None, entry: PlanEntry | None, value: float | None) -> Row:
    if entry is not None and isinstance(entry.decision, LayerPlan):
        plan = entry.decision
        weights = " and ".join(dict.fromkeys(map(str, plan.weights.values())))
        how = f"{plan.scheme}: weight {weights}, input {plan.input or 'float'}"
        return Row(
            name=name, kind=entry.layer_type, how=how, before=entry.parameter_bytes, after=entry.bytes_after, sqnr=value
        )
    specs = {} if module is None else module.weight_specs
    weights = " and ".join(dict.fromkeys(map(str, specs.values())))
    own = () if module is None else (*module.parameters(recurse=False), *module.buffers(recurse=False))
    after = sum(tensor.numel() * tensor.element_size() for tensor in own)
    how = f"weight {weights}, input {(module and module.input_spec) or 'float'}"
    return Row(name=name, kind=type(module).__name__, how=how, before=None, after=after, sqnr=value)


def _others(plan: Plan) -> Iterator[tuple[str, str, int, str]]:
    for entry in plan.entries:
        if isinstance(entry.decision, Removed):
            why = f"folded into {name_of(entry.decision.into)} by {entry.decision.algorithm}"
            yield entry.name, entry.layer_type, entry.parameter_bytes, why
        elif not isinstance(entry.decision, LayerPlan):
            yield entry.name, entry.layer_type, entry.parameter_bytes, entry.decision.reason


def _weights(module: QuantizedLayer, original: nn.Module | None) -> list[Weight]:
    found = []
    for name, spec in module.weight_specs.items():
        float_weight = getattr(original, name, None)
        is_known = isinstance(float_weight, Tensor) and tuple(float_weight.shape) == spec.shape
        found.append(
            Weight(
                name=name,
                spec=spec,
                stored=module.stored(name),
                decoded=module.dequantized(name).detach(),
                original=float_weight if is_known and float_weight.device.type != "meta" else None,
            )
        )
    return found


def _inputs(context: ValidationContext, names: list[str]) -> tuple[dict[str, SeenInput], list[str]]:
    if context.batch is None:
        return {}, ["there is no batch: inputs are not drawn"]
    try:
        return watch_inputs(context.run, context.original, context.batch, names), []
    except Exception as error:  # noqa: BLE001 - the user's model can raise anything
        why = printable(f"{type(error).__name__}: {error}")
        return {}, [f"the float model does not run on the batch, so inputs are not drawn: {why}"]


def _drawn(
    context: ValidationContext, module: QuantizedLayer, row: Row, number: int, seen: dict[str, SeenInput]
) -> Drawn:
    notes = []
    weights = []
    for weight in _weights(module, context.float_layer(row.name)):
        if weight.original is None:
            notes.append(f"the float {weight.name} is not known: only what the codes stand for is drawn")
        if not weight.decoded.numel():
            notes.append(f"{weight.name} is empty: nothing to draw")
            continue
        if not weight.spec.is_scaled:
            notes.append(f"{weight.name} is stored as {weight.spec.dtype.name}: no scales, so no ranges of codes")
        known = weight.decoded if weight.original is None else weight.original
        weights.append(
            DrawnWeight(
                name=weight.name,
                histogram=histogram(weight.original, weight.decoded),
                channels=channel_ends(known, weight.spec),
                codes=code_ends(weight.stored, weight.spec) if weight.spec.is_scaled else None,
            )
        )
    if context.batch is not None and row.name not in seen:
        notes.append("its input is not drawn: the float model did not call it by itself with a float tensor")
    return Drawn(
        row=row,
        number=number,
        weights=weights,
        notes=notes,
        seen=seen.get(row.name),
        input_codes=input_code_ends(module),
        input_kind="stays float" if module.input_spec is None else str(module.input_spec),
    )
