r"""Which layers a pattern names.

============================  ================================================================
pattern                       names
============================  ================================================================
``"encoder.*"``               layers whose qualified name matches the ``fnmatch`` glob
``"re:.*\.fc[12]"``           layers whose whole name matches the regular expression
``"type:Linear"``             layers of any class of that name, or of a class derived from one
``"type:my_package.Linear"``  layers of the class of that full name, or derived from it
``my_package.Linear``         the same, given as the class
============================  ================================================================
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from mono_quant.errors import ConfigurationError

__all__ = ["Pattern", "as_text", "exactly", "first_match", "matches", "refuse_unmatched"]

Pattern = str | type[nn.Module]


def as_text(pattern: Pattern) -> str:
    """The pattern as text, the form in which it is kept and saved.

    Raises:
        ConfigurationError: when it is neither text nor a module class, or no valid regular expression.
    """
    if isinstance(pattern, type) and issubclass(pattern, nn.Module):
        return f"type:{_full_name(pattern)}"
    if not isinstance(pattern, str):
        raise ConfigurationError(f"a pattern must be text or a module class, got {pattern!r}")
    if pattern.startswith("re:"):
        try:
            re.compile(pattern[3:])
        except re.error as error:
            raise ConfigurationError(f"pattern {pattern!r} is not a regular expression: {error}") from error
    return pattern


def matches(pattern: str, name: str, module: nn.Module) -> bool:
    """Whether a pattern, as text, names a layer."""
    if pattern.startswith("re:"):
        return re.fullmatch(pattern[3:], name) is not None
    if pattern.startswith("type:"):
        return any(pattern[5:] in {cls.__name__, _full_name(cls)} for cls in type(module).__mro__)
    return fnmatchcase(name, pattern)


def first_match(patterns: Iterable[str], names: Iterable[str], module: nn.Module) -> str | None:
    """The first pattern that names a layer by any of its names; None when none does."""
    names = tuple(names)
    return next((pattern for pattern in patterns if any(matches(pattern, name, module) for name in names)), None)


def refuse_unmatched(model: nn.Module, patterns: Iterable[str]) -> None:
    """Refuse a pattern that names no layer: it is misspelt, or names a container, which alone does nothing.

    Raises:
        ConfigurationError: naming the pattern and what there is.
    """
    layers = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if next(module.children(), None) is None or next(module.parameters(recurse=False), None) is not None
    }
    for pattern in patterns:
        if not any(matches(pattern, name, module) for name, module in layers.items()):
            if pattern.startswith("type:"):
                types = ", ".join(dict.fromkeys(type(module).__name__ for module in layers.values()))
                raise ConfigurationError(
                    f"{pattern!r} matches no layer of the model (it is a class in layer_types or skip_types, or a "
                    f"pattern); the types there are: {types}"
                )
            names = ", ".join(
                name or f"(the model itself, a {type(module).__name__})" for name, module in layers.items()
            )
            raise ConfigurationError(f"pattern {pattern!r} matches no layer of the model; it has: {names}")


def exactly(name: str) -> str:
    """A pattern that names this layer alone."""
    return "".join(f"[{letter}]" if letter in "[*?" else letter for letter in name)


def _full_name(cls: type) -> str:
    """Module and qualified name: what tells ``my_package.layers.Linear`` from ``torch.nn.modules.linear.Linear``."""
    return f"{cls.__module__}.{cls.__qualname__}"
