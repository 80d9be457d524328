"""What was measured on the way to a target."""

from collections.abc import Iterator

import attrs

from mono_quant._size import size_text

__all__ = ["ASKED", "FLOAT", "Evaluation", "Found", "LayerSensitivity", "Sensitivity"]

ASKED = "as asked for"
"""The way of a layer that the run's own configuration gives it."""

FLOAT = "float"
"""The way of a layer that is kept in float."""


@attrs.frozen(kw_only=True)
class LayerSensitivity:
    """What one layer costs when it alone is quantized.

    Args:
        name: qualified name.
        layer_type: class name of the float layer.
        sqnr_db: SQNR of the model's output in dB; None where that holds no float tensors.
        metric: the user's figure of that model; None without one.
        float_bytes: of its parameters in float.
        quantized_bytes: of its tensors when it is quantized.
    """

    name: str
    layer_type: str
    sqnr_db: float | None
    metric: float | None
    float_bytes: int
    quantized_bytes: int


@attrs.frozen(kw_only=True)
class Sensitivity:
    """All layers, the most sensitive first; printed it is a table.

    Args:
        layers: by output SQNR, or by the metric where there is one.
        metric: of the float model; None without one.
        batches: how many batches outputs were compared on.
    """

    layers: tuple[LayerSensitivity, ...]
    metric: float | None
    batches: int

    def __str__(self) -> str:
        return "\n".join(_table(self))


@attrs.frozen(kw_only=True)
class Evaluation:
    """One model that was measured.

    Args:
        changed: layer → what it had instead of what was asked for: a scheme, an observer, or ``"float"``.
        value: what it reached: dB, the metric, or bytes.
        is_met: whether that is enough.
    """

    changed: dict[str, str]
    value: float
    is_met: bool


@attrs.frozen(kw_only=True)
class Found:
    """How a target was reached; printed it is the path, a line an evaluation.

    Args:
        target: what was asked for, as text.
        unit: of the values.
        evaluations: all models that were measured, in order.
        changed: layer → what it has in the end instead of what was asked for.
        value: what the model reaches with that.
        is_met: whether that is enough.
    """

    target: str
    unit: str
    evaluations: tuple[Evaluation, ...]
    changed: dict[str, str]
    value: float
    is_met: bool

    def __str__(self) -> str:
        return "\n".join(_path(self))


def _table(found: Sensitivity) -> Iterator[str]:
    width = max([len(layer.name) for layer in found.layers] + [len("layer")])
    head = f"{'layer':<{width}}  {'type':<14}  {'output SQNR':>11}  {'metric':>10}  {'float':>10}  {'quantized':>10}"
    yield head if found.metric is not None else head.replace(f"  {'metric':>10}", "")
    for layer in found.layers:
        metric = "" if layer.metric is None else f"  {layer.metric:>10.4g}"
        yield (
            f"{layer.name or '(model)':<{width}}  {layer.layer_type:<14}  {_db(layer.sqnr_db):>11}{metric}  "
            f"{size_text(layer.float_bytes / 2**20):>10}  {size_text(layer.quantized_bytes / 2**20):>10}"
        )
    if found.metric is not None:
        yield f"the float model has {found.metric:.4g}"


def _db(sqnr_db: float | None) -> str:
    return "" if sqnr_db is None else f"{sqnr_db:.1f} dB"


def _path(found: Found) -> Iterator[str]:
    yield f"target     {found.target}"
    for number, evaluation in enumerate(found.evaluations, start=1):
        floats = sum(scheme == FLOAT for scheme in evaluation.changed.values())
        others = len(evaluation.changed) - floats
        what = f"{others} layers otherwise, {floats} in float" if evaluation.changed else "all as asked for"
        met = "met" if evaluation.is_met else "not met"
        yield f"{number:>3}        {evaluation.value:.4g}{found.unit}  {met}: {what}"
    for scheme in dict.fromkeys(found.changed.values()):
        names = [name for name, other in found.changed.items() if other == scheme]
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")  # noqa: PLR2004
        yield f"{scheme:<10} {shown}"
