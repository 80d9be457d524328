"""What a run is asked to do, as one record that can be written down."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

import attrs

from mono_quant.component import Component, component, components, maybe_component
from mono_quant.core.selection import Pattern, as_text
from mono_quant.errors import ConfigurationError
from mono_quant.recipe import RecipeKind, did_you_mean, parse, read_file, render, write_file

__all__ = ["FLOAT", "KEEP", "Component", "OnFailure", "Override", "QuantizationConfig", "with_first"]

OnFailure = Literal["error", "warn", "ignore"]

FLOAT = "float"
"""In place of an override: keep those layers in float. The same as None, which TOML has not."""

KEEP = "keep"
"""In place of a scheme, for layers that a format refuses: keep them in float."""


@attrs.frozen(kw_only=True)
class Override:
    """Other components for the layers that a pattern names; None where the run's own serves."""

    scheme: Component | None = attrs.field(default=None, converter=maybe_component)
    observer: Component | None = attrs.field(default=None, converter=maybe_component)


def _patterns(patterns: Iterable[Pattern] | Pattern | None) -> tuple[str, ...]:
    if patterns is None:
        return ()
    if isinstance(patterns, str | type):
        return (as_text(patterns),)
    if isinstance(patterns, Mapping) or not isinstance(patterns, Iterable):
        raise ConfigurationError(f"expected a pattern or a list of patterns, got {patterns!r}")
    return tuple(map(as_text, patterns))


def _overrides(overrides: Mapping[Pattern, Any] | None) -> dict[str, Override | None]:
    if overrides is not None and not isinstance(overrides, Mapping):
        raise ConfigurationError(f"expected a mapping of patterns to what is different there, got {overrides!r}")
    return {as_text(pattern): _override(pattern, change) for pattern, change in (overrides or {}).items()}


def _override(pattern: Pattern, change: Mapping[str, Any] | Override | str | None) -> Override | None:
    if change is None or isinstance(change, Override):
        return change
    if change == FLOAT:
        return None
    known = [field.name for field in attrs.fields(Override)]
    allowed = f"override {pattern!r} must be {FLOAT!r} or a mapping of {', '.join(map(repr, known))}"
    if not isinstance(change, Mapping):
        meant = did_you_mean(change, [FLOAT])
        if isinstance(change, str) and not meant:
            meant = f'; a scheme is asked for as {{"scheme": "{change}"}}'
        raise ConfigurationError(f"{allowed}; got {change!r}{meant}")
    for key in change:
        if key not in known:
            raise ConfigurationError(f"{allowed}; got the key {key!r}{did_you_mean(key, known)}")
    try:
        return Override(**change)
    except ConfigurationError as error:
        raise ConfigurationError(f"override {pattern!r}: {error}") from error


def _one_of(choices: tuple[str, ...]) -> Any:  # noqa: ANN401 - an attrs validator
    def validate(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if value not in choices:
            raise ConfigurationError(
                f"{field.name} must be one of {', '.join(map(repr, choices))}, got {value!r}"
                f"{did_you_mean(value, choices)}"
            )

    return validate


def _is_text(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(f"{field.name} must be text, got {value!r}")


def _is_bool(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{field.name} must be true or false, got {value!r}")


def _at_least(least: int) -> Any:  # noqa: ANN401 - an attrs validator
    def validate(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigurationError(f"{field.name} must be a whole number of at least {least}, got {value!r}")

    return validate


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
        fuse: whether kernels apply the activations that follow and codes stay codes between layers, where the first
            batch shows that what follows takes them.
        runtime: what runs the model when it is compiled: ``"auto"`` for the fastest, by measurement.
        include: patterns of the only layers to quantize; empty for all.
        exclude: patterns of layers to keep in float.
        overrides: pattern → `Override`, or None or ``"float"`` to keep those layers in float; the first match wins.
        min_parameters: layers whose weight has fewer elements stay in float.
        num_samples: how many batches to draw.
        on_failure: what a failed check does: ``"error"``, ``"warn"`` or ``"ignore"``.
        format: the format that the model is to be saved in, which is asked first what it can hold; None for any.
        on_refusal: what becomes of layers that this format cannot hold as they are planned: ``"error"`` refuses the
            run, ``"keep"`` keeps them in float, and the name of a scheme quantizes them by that.
    """

    scheme: Component = attrs.field(default=Component("int8-static"), converter=component)
    observer: Component = attrs.field(default=Component("minmax"), converter=component)
    source: Component | None = attrs.field(default=None, converter=maybe_component)
    validators: tuple[Component, ...] = attrs.field(
        default=("sqnr", "size", "weight-range", "load-run"), converter=components
    )
    algorithms: tuple[Component, ...] = attrs.field(default=("bn-fold",), converter=components)
    kernel: str = attrs.field(default="auto", validator=_is_text)
    fuse: bool = attrs.field(default=True, validator=_is_bool)
    runtime: Component = attrs.field(default=Component("auto"), converter=component)
    include: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    exclude: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    overrides: dict[str, Override | None] = attrs.field(factory=dict, converter=_overrides)
    min_parameters: int = attrs.field(default=0, validator=_at_least(0))
    num_samples: int = attrs.field(default=150, validator=_at_least(1))
    on_failure: OnFailure = attrs.field(default="error", validator=_one_of(get_args(OnFailure)))
    format: Component | None = attrs.field(default=None, converter=maybe_component)
    on_refusal: Component = attrs.field(default=Component("error"), converter=component)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """A recipe from a ``.toml`` or ``.json`` file; what it does not say is as by default.

        Raises:
            ArtifactError: when the file cannot be read.
            ConfigurationError: naming the file and the key that is unknown, or whose value cannot be meant.
        """
        return cls._of(read_file(path), str(path))

    @classmethod
    def from_text(cls, text: str, kind: RecipeKind | None = None, *, where: str = "the recipe") -> Self:
        """A recipe from text.

        >>> QuantizationConfig.from_text('exclude = ["head"]', "toml").exclude
        ('head',)

        Args:
            text: TOML or JSON.
            kind: which of them; None sees it by the brace that a JSON object begins with.
            where: what to call the text in messages.

        Raises:
            ConfigurationError: as `from_file`.
        """
        return cls._of(parse(text, kind, where), where)

    def to_file(self, path: str | Path) -> None:
        """Write the whole recipe, as TOML or JSON by the suffix. Read again it is equal to this one.

        Raises:
            ArtifactError: when the file cannot be written.
            ConfigurationError: when an option of a component has no notation there, as a function has not.
        """
        write_file(self._values(), path)

    def to_text(self, kind: RecipeKind) -> str:
        """The whole recipe as text; the other side of `from_text`."""
        return render(self._values(), kind)

    @classmethod
    def _of(cls, values: Mapping[str, Any], where: str) -> Self:
        known = [field.name for field in attrs.fields(cls)]
        for key, value in values.items():
            if key not in known:
                raise ConfigurationError(
                    f"{where}: unknown key {key!r}, the keys are {', '.join(known)}{did_you_mean(key, known)}"
                )
            try:
                cls(**{key: value})
            except ConfigurationError as error:
                named = str(error) if str(error).startswith(key) else f"{key}: {error}"
                raise ConfigurationError(f"{where}: {named}") from error
        return cls(**values)

    def _values(self) -> dict[str, Any]:
        """The fields as a recipe says them, all but those that are None, which is then the default too."""
        values = {name: _as_value(value) for name, value in attrs.asdict(self, recurse=False).items()}
        return {name: value for name, value in values.items() if value is not None}


def _as_value(value: object) -> Any:  # noqa: ANN401 - text, numbers, lists and tables
    """What stands in a recipe for the value of a field."""
    if isinstance(value, Component):
        return value.as_wanted()
    if isinstance(value, Override):
        given = {name: _as_value(component) for name, component in attrs.asdict(value, recurse=False).items()}
        return {name: component for name, component in given.items() if component is not None}
    if isinstance(value, tuple):
        return [_as_value(one) for one in value]
    if isinstance(value, dict):
        return {pattern: FLOAT if change is None else _as_value(change) for pattern, change in value.items()}
    return value


def with_first(config: QuantizationConfig, overrides: Mapping[str, Override | None]) -> QuantizationConfig:
    """The same configuration with overrides that come before its own, of which the first that matches wins."""
    after = {pattern: one for pattern, one in config.overrides.items() if pattern not in overrides}
    both: dict[Any, Any] = {**overrides, **after}
    return attrs.evolve(config, overrides=both)
