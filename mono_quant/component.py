"""How a component is asked for: by its name, or by a mapping of its name and options."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from mono_quant.errors import ConfigurationError

__all__ = ["Component", "Wanted", "component", "components", "maybe_component"]


def _as_in_a_recipe(value: Any) -> Any:  # noqa: ANN401 - what plugins take as options
    """The value with lists for tuples, which a recipe does not tell apart, and plain dictionaries."""
    if isinstance(value, list | tuple):
        return [_as_in_a_recipe(inner) for inner in value]
    if isinstance(value, Mapping):
        return {key: _as_in_a_recipe(inner) for key, inner in value.items()}
    return value


@attrs.frozen
class Component:
    """A component asked for by name, with options.

    >>> Component.of({"name": "spread", "k": 3.0})
    Component(name='spread', options={'k': 3.0})

    Args:
        name: in the registry of its kind.
        options: for its factory; a tuple becomes a list, as a recipe would say it.
    """

    name: str
    options: dict[str, Any] = attrs.field(factory=dict, converter=_as_in_a_recipe)

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

    def as_wanted(self) -> "str | dict[str, Any]":
        """The component as users ask for it; the inverse of `of`.

        Raises:
            ConfigurationError: when an option is called ``name``, for which that form has no place.
        """
        if "name" in self.options:
            raise ConfigurationError(f"component {self.name!r} has an option 'name', which no recipe can say")
        return {"name": self.name, **self.options} if self.options else self.name


Wanted = str | Mapping[str, Any] | Component
"""How users ask for a component."""


def component(wanted: Wanted) -> Component:
    """`Component.of` as a function, the form in which mypy knows converters."""
    return Component.of(wanted)


def maybe_component(wanted: Wanted | None) -> Component | None:
    """The same, where None is one of the answers."""
    return None if wanted is None else Component.of(wanted)


def components(wanted: Iterable[Wanted] | Wanted) -> tuple[Component, ...]:
    """Several of them, or one.

    Raises:
        ConfigurationError: when it is neither.
    """
    if isinstance(wanted, str | Mapping | Component):
        return (Component.of(wanted),)
    if not isinstance(wanted, Iterable):
        raise ConfigurationError(f"expected a component or a list of components, got {wanted!r}")
    return tuple(map(Component.of, wanted))
