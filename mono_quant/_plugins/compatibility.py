"""Whether a plugin fits this mono_quant: the version of the contract it was written for, and what it uses of it."""

import inspect
from collections.abc import Iterator
from typing import Any

import attrs

from mono_quant.errors import PluginError
from mono_quant.plugin_api.deprecations import DEPRECATIONS
from mono_quant.plugin_api.markers import API_VERSION, OLDEST_API_VERSION
from mono_quant.plugin_api.specs import ComponentSpec
from mono_quant.version import __version__

__all__ = ["deprecated_fields", "deprecated_methods", "refuse_incompatible", "stated_version"]

_STATED = "MONO_QUANT_API_VERSION"


def stated_version(plugin: object) -> int | None:
    """The version of the plugin API that a plugin says it was written for; None when it says nothing."""
    stated: int | None = inspect.getattr_static(plugin, _STATED, None)
    return stated


def refuse_incompatible(plugin: object) -> None:
    """Refuse a plugin that was written for a version of the plugin API that is not served.

    Raises:
        PluginError: naming both versions.
    """
    stated = stated_version(plugin)
    if stated is None:
        return
    if type(stated) is not int:
        raise PluginError(f"its {_STATED} is {stated!r}, not a whole number")
    served = f"mono_quant {__version__} has plugin API {API_VERSION}"
    if stated > API_VERSION:
        raise PluginError(f"it was written for plugin API {stated}; {served}: install a newer mono_quant")
    if stated < OLDEST_API_VERSION:
        raise PluginError(
            f"it was written for plugin API {stated}; {served} and serves none before {OLDEST_API_VERSION}: "
            "install a newer version of the plugin"
        )


def deprecated_fields(record: ComponentSpec) -> Iterator[str]:
    """What a record uses that goes away, in sentences: fields that are set to more than their default."""
    fields = attrs.fields_dict(type(record))
    for deprecation in DEPRECATIONS:
        field = fields.get(deprecation.member) if isinstance(record, deprecation.owner) else None
        if field is not None and getattr(record, field.name) != _default(record, field):
            yield str(deprecation)


def deprecated_methods(component_type: type) -> Iterator[str]:
    """What a type of component uses that goes away, in sentences: methods of its interface that it writes anew."""
    for deprecation in DEPRECATIONS:
        own = getattr(component_type, deprecation.member, None)
        if issubclass(component_type, deprecation.owner) and own is not getattr(deprecation.owner, deprecation.member):
            yield str(deprecation)


def _default(record: ComponentSpec, field: "attrs.Attribute[Any]") -> object:
    """What a field is when it is not set, as the record keeps it; `attrs.NOTHING` where it must be set."""
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, which its stubs show as a function
        default = default.factory(record) if default.takes_self else default.factory()
    convert: Any = field.converter
    return default if default is attrs.NOTHING or convert is None else convert(default)
