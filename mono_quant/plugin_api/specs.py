"""The records that hooks return: one for each kind of component.

Every record has a ``name`` that users ask for, a one-line ``summary``, a ``factory`` (a class, or
``"package.module:Class"`` that is imported on first use) and ``aliases``.
"""

from collections.abc import Callable, Iterable
from typing import Any

import attrs
from attrs.validators import deep_iterable, instance_of, matches_re

__all__ = [
    "AlgorithmSpec",
    "ComponentSpec",
    "FormatSpec",
    "KernelSpec",
    "ObserverSpec",
    "RuntimeSpec",
    "SchemeSpec",
    "SourceSpec",
    "ValidatorSpec",
]

_NAME = matches_re(r"[a-z0-9]+(-[a-z0-9]+)*")


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


def _is_factory(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
    """A class or function, or an import path ``package.module:Attribute``."""
    if not callable(value) and not (isinstance(value, str) and value.count(":") == 1):
        message = f"{field.name} must be a class or 'package.module:Class', got {value!r}"
        raise TypeError(message)


@attrs.frozen(kw_only=True)
class ComponentSpec:
    """What every record has.

    Args:
        name: lower-case words joined by hyphens.
        summary: one line for people, shown by ``monoquant plugins``.
        factory: makes the component; its keyword-only parameters are the user's options.
        aliases: other names for the same component.
    """

    name: str = attrs.field(validator=_NAME)
    summary: str = attrs.field(validator=instance_of(str))
    factory: Callable[..., Any] | str = attrs.field(validator=_is_factory)
    aliases: tuple[str, ...] = attrs.field(default=(), converter=_texts, validator=deep_iterable(_NAME))


@attrs.frozen(kw_only=True)
class ObserverSpec(ComponentSpec):
    """Announces an `Observer`."""


@attrs.frozen(kw_only=True)
class SourceSpec(ComponentSpec):
    """Announces a `Source`."""


@attrs.frozen(kw_only=True)
class SchemeSpec(ComponentSpec):
    """Announces a `Scheme`."""


@attrs.frozen(kw_only=True)
class FormatSpec(ComponentSpec):
    """Announces a `Format`.

    Args:
        suffixes: file name endings that choose this format, each with its dot: ``(".safetensors",)``. A format without
            any is chosen by its name, or, a `FolderFormat`, by what is in the folder.
    """

    suffixes: tuple[str, ...] = attrs.field(
        default=(), converter=_texts, validator=deep_iterable(matches_re(r"\.[\w.-]+"))
    )


@attrs.frozen(kw_only=True)
class ValidatorSpec(ComponentSpec):
    """Announces a `Validator`."""


@attrs.frozen(kw_only=True)
class KernelSpec(ComponentSpec):
    """Announces a `Kernel`."""


@attrs.frozen(kw_only=True)
class AlgorithmSpec(ComponentSpec):
    """Announces an `Algorithm`."""


@attrs.frozen(kw_only=True)
class RuntimeSpec(ComponentSpec):
    """Announces a `Runtime`."""
