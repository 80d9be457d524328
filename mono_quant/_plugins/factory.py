"""Making a component from its record and the user's options."""

import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

from mono_quant._plugins.registry import Registered
from mono_quant.errors import ConfigurationError, PluginError

__all__ = ["make", "option_defaults", "required_options", "resolve"]

_NAMED = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


def make(registered: Registered[Any], kind: str, interface: type, options: Mapping[str, Any], **common: object) -> Any:  # noqa: ANN401 - an instance of `interface`
    """The component, as ``factory(**options, **common)``.

    Args:
        registered: the record.
        kind: what to call it in messages.
        interface: the class that the component must be an instance of.
        options: from the user; each must be a parameter that the factory names.
        common: from the engine; passed as they are.

    Raises:
        ConfigurationError: when an option is unknown, or the factory refuses its value.
        PluginError: when the factory cannot be imported or makes something else.
    """
    spec = registered.spec
    factory = resolve(registered)
    known = {option.name for option in _options(factory)} - set(common)
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigurationError(
            f"{kind} {spec.name!r} has no option {', '.join(map(repr, unknown))}; "
            f"its options are: {', '.join(sorted(known)) or '(none)'}"
        )
    try:
        component = factory(**options, **common)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{kind} {spec.name!r} refused its options {dict(options)}: {error}") from error
    if not isinstance(component, interface):
        raise PluginError(
            f"{kind} {spec.name!r} of {registered.provider} made a {type(component).__name__}, "
            f"not a mono_quant.plugin_api.{interface.__name__}"
        )
    return component


def option_defaults(registered: Registered[Any], but: Iterable[str] = ()) -> dict[str, str]:
    """The user's options and their defaults as Python writes them; empty text where there is none.

    Args:
        registered: the record.
        but: parameters that the engine gives.

    Raises:
        PluginError: when the factory cannot be imported.
    """
    parameters = _options(resolve(registered))
    return {p.name: "" if p.default is p.empty else repr(p.default) for p in parameters if p.name not in but}


def required_options(registered: Registered[Any], but: Iterable[str] = ()) -> list[str]:
    """The user's options that have no default: without them, nothing can be made.

    Args:
        registered: the record.
        but: parameters that the engine gives.

    Raises:
        PluginError: when the factory cannot be imported.
    """
    return [option for option, default in option_defaults(registered, but).items() if not default]


def resolve(registered: Registered[Any]) -> Any:  # noqa: ANN401 - a class or a function
    """The factory itself, imported when its record names it by its path.

    Raises:
        PluginError: when it cannot be.
    """
    factory = registered.spec.factory
    if not isinstance(factory, str):
        return factory
    try:
        resolved = pkgutil.resolve_name(factory)
    except (Exception, SystemExit) as error:  # its import can raise anything
        raise PluginError(
            f"plugin {registered.provider}: its factory {factory!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(resolved):
        raise PluginError(f"plugin {registered.provider}: its factory {factory!r} is a {type(resolved).__name__}")
    return resolved


def _options(factory: Any) -> list[inspect.Parameter]:  # noqa: ANN401
    """The parameters that a factory names."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # written in C, and says nothing
        return []
    return [p for p in parameters if p.kind in _NAMED]
