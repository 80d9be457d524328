"""What a quantized model must reach."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from torch import nn

from mono_quant._size import bytes_of
from mono_quant.config import Override
from mono_quant.errors import ConfigurationError

__all__ = ["MaxDrop", "MaxSize", "Metric", "MinSQNR", "Target"]

Metric = Callable[[nn.Module], float]
"""A figure of a model, higher is better; it must leave the model as it is and give the same for the same model."""


def _overrides(then: Iterable[Any] | str | Mapping[str, Any]) -> tuple[Override, ...]:
    if isinstance(then, str | Mapping):
        return (_override(then),)
    return tuple(map(_override, then))


def _override(wanted: Any) -> Override:  # noqa: ANN401 - what users write
    """A name, or a mapping with one, is a scheme; another mapping is an override."""
    if isinstance(wanted, Override):
        return wanted
    if not isinstance(wanted, Mapping) or "name" in wanted:
        return Override(scheme=wanted)
    if not wanted or wanted.keys() - {"scheme", "observer"}:
        raise ConfigurationError(f"expected a scheme, or a mapping of 'scheme' and 'observer', got {wanted!r}")
    return Override(**wanted)


def _is_not_negative(_: object, field: "attrs.Attribute[float]", value: float) -> None:
    if not value >= 0:
        raise ConfigurationError(f"{field.name} must be a number of at least 0, got {value!r}")


def _is_a_metric(_: object, field: "attrs.Attribute[Metric]", value: object) -> None:
    if not callable(value):
        raise ConfigurationError(f"{field.name} must be a function of a model, got {value!r}")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigurationError(f"expected a finite number, got {value!r}")
    return float(value)


def _is_whole(_: object, field: "attrs.Attribute[int]", value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{field.name} must be a whole number of at least 1, got {value!r}")


@attrs.frozen
class Target:
    """What all targets have.

    Args:
        then: what a layer is given in turn where the run's own way costs too much, before it is kept in float: names of
            schemes, mappings of a name and options, or ``{"scheme": ..., "observer": ...}`` as in overrides. Where a
            size is asked for: schemes of fewer bits, in turn.
        evaluations: how many times models are measured at most; what was asked for and what comes out always are.
        batches: how many of the first calibration batches outputs are compared on.
    """

    then: tuple[Override, ...] = attrs.field(
        default=({"observer": "percentile"}, "int8-weight-only", "float16"), converter=_overrides, kw_only=True
    )
    evaluations: int = attrs.field(default=25, validator=_is_whole, kw_only=True)
    batches: int = attrs.field(default=4, validator=_is_whole, kw_only=True)


@attrs.frozen
class MinSQNR(Target):
    """The SQNR of the model's output is at least so many dB.

    >>> MinSQNR(30.0).db
    30.0
    """

    db: float = attrs.field(converter=_number)


@attrs.frozen
class MaxDrop(Target):
    """A metric falls by at most ``drop`` below that of the float model.

    Args:
        metric: of the model, higher is better.
        drop: in its own units: 0.01 is one point of an accuracy between 0 and 1.
    """

    metric: Metric = attrs.field(validator=_is_a_metric)
    drop: float = attrs.field(converter=_number, validator=_is_not_negative)


@attrs.frozen
class MaxSize(Target):
    """The tensors of the model take at most so many bytes.

    >>> MaxSize("25MB").nbytes
    26214400
    """

    nbytes: int = attrs.field(converter=bytes_of)
    then: tuple[Override, ...] = attrs.field(
        default=({"name": "int4-weight-only", "misfit": "adjust"},), converter=_overrides, kw_only=True
    )
