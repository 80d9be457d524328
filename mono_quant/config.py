"""What a run is asked to do, as one record that can be written down."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import attrs

from mono_quant.core.selection import Pattern, as_text
from mono_quant.errors import ConfigurationError

__all__ = ["Component", "OnFailure", "Override", "QuantizationConfig"]

OnFailure = Literal["error", "warn", "ignore"]


@attrs.frozen
class Component:
    """A component asked for by name, with options.

    >>> Component.of({"name": "spread", "k": 3.0})
    Component(name='spread', options={'k': 3.0})
    """

    name: str
    options: dict[str, Any] = attrs.field(factory=dict)

    @classmethod
    def of(cls, wanted: "Wanted") -> "Component":
        """From a name or from a mapping with ``"name"`` and options.

        Raises:
            ConfigurationError: when it is neither.
        """
        if isinstance(wanted, Component):
            return wanted
        if isinstance(wanted, str):
            return cls(wanted)
        if isinstance(wanted, Mapping) and isinstance(wanted.get("name"), str):
            return cls(wanted["name"], {key: value for key, value in wanted.items() if key != "name"})
        raise ConfigurationError(f"a component is asked for by its name or {{'name': ..., options}}, got {wanted!r}")


Wanted = str | Mapping[str, Any] | Component
"""How users ask for a component."""


def _component(wanted: Wanted) -> Component:
    return Component.of(wanted)


def _maybe_component(wanted: Wanted | None) -> Component | None:
    return None if wanted is None else Component.of(wanted)


@attrs.frozen(kw_only=True)
class Override:
    """Other components for the layers that a pattern names; None where the run's own serves."""

    scheme: Component | None = attrs.field(default=None, converter=_maybe_component)
    observer: Component | None = attrs.field(default=None, converter=_maybe_component)


def _patterns(patterns: Iterable[Pattern] | Pattern | None) -> tuple[str, ...]:
    if patterns is None:
        return ()
    return tuple(as_text(p) for p in ([patterns] if isinstance(patterns, str | type) else patterns))


def _components(wanted: Iterable[Any]) -> tuple[Component, ...]:
    return tuple(Component.of(one) for one in ([wanted] if isinstance(wanted, str | Mapping) else wanted))


def _overrides(overrides: Mapping[Pattern, Any] | None) -> dict[str, Override | None]:
    return {as_text(pattern): _override(pattern, change) for pattern, change in (overrides or {}).items()}


def _override(pattern: Pattern, change: Mapping[str, Any] | Override | None) -> Override | None:
    if change is None or isinstance(change, Override):
        return change
    known = {field.name for field in attrs.fields(Override)}
    if not isinstance(change, Mapping) or set(change) - known:
        raise ConfigurationError(f"override {pattern!r} must be None or a mapping of {sorted(known)}, got {change!r}")
    return Override(**change)


def _one_of(choices: tuple[str, ...]) -> Any:  # noqa: ANN401 - an attrs validator
    def validate(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if value not in choices:
            raise ConfigurationError(f"{field.name} must be one of {', '.join(map(repr, choices))}, got {value!r}")

    return validate


def _positive(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{field.name} must be a whole number of at least 1, got {value!r}")


@attrs.frozen(kw_only=True)
class QuantizationConfig:
    """Everything that decides the outcome of a run besides the model and the data.

    Args:
        scheme: how layers are quantized.
        observer: how ranges are found.
        source: how calibration data is read; None finds the source that accepts it.
        validators: the checks after quantization, in order.
        algorithms: rewrites of the float model, in order; empty for none.
        kernel: ``"auto"``, or the kernel to use wherever it supports a layer.
        include: patterns of the only layers to quantize; empty for all.
        exclude: patterns of layers to keep in float.
        overrides: pattern → `Override`, or None to keep those layers in float; the first match wins.
        num_samples: how many batches to draw.
        on_failure: what a failed check does: ``"error"``, ``"warn"`` or ``"ignore"``.
    """

    scheme: Component = attrs.field(default=Component("int8-static"), converter=_component)
    observer: Component = attrs.field(default=Component("minmax"), converter=_component)
    source: Component | None = attrs.field(default=None, converter=_maybe_component)
    validators: tuple[Component, ...] = attrs.field(
        default=("sqnr", "size", "weight-range", "load-run"), converter=_components
    )
    algorithms: tuple[Component, ...] = attrs.field(default=("bn-fold",), converter=_components)
    kernel: str = "auto"
    include: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    exclude: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    overrides: dict[str, Override | None] = attrs.field(factory=dict, converter=_overrides)
    num_samples: int = attrs.field(default=150, validator=_positive)
    on_failure: OnFailure = attrs.field(default="error", validator=_one_of(get_args(OnFailure)))
