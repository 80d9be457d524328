"""What can be told of one plugin: who it is, what it gives, and what is wrong with it."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata

import attrs

from mono_quant._plugins.compatibility import deprecated_fields, deprecated_methods, stated_version
from mono_quant._plugins.discovery import discover, installed
from mono_quant._plugins.factory import make, option_defaults, required_options, resolve
from mono_quant._plugins.manager import SLOW_IMPORT_MS, PluginManager, hooks_of
from mono_quant._plugins.provider import Provider
from mono_quant._plugins.registry import Registered
from mono_quant.core.granularity import PerTensor
from mono_quant.core.qtypes import UINT8
from mono_quant.errors import ConfigurationError, MonoQuantError, UnknownPluginError
from mono_quant.plugin_api import (
    Algorithm,
    AlgorithmSpec,
    ComponentSpec,
    Format,
    FormatSpec,
    Kernel,
    KernelSpec,
    Observer,
    ObserverSpec,
    Runtime,
    RuntimeSpec,
    Scheme,
    SchemeSpec,
    Source,
    SourceSpec,
    Validator,
    ValidatorSpec,
)

__all__ = ["ComponentInfo", "PluginInfo", "providers_named", "tell"]

_INTERFACES: dict[type[ComponentSpec], type] = {
    ObserverSpec: Observer,
    SourceSpec: Source,
    SchemeSpec: Scheme,
    FormatSpec: Format,
    ValidatorSpec: Validator,
    KernelSpec: Kernel,
    AlgorithmSpec: Algorithm,
    RuntimeSpec: Runtime,
}
_COMMON: dict[type[ComponentSpec], dict[str, object]] = {
    ObserverSpec: {"dtype": UINT8, "symmetric": False, "granularity": PerTensor()}
}
"""What the engine adds to the user's options."""


@attrs.frozen(kw_only=True)
class ComponentInfo:
    """One component.

    Args:
        kind: ``"observer"``.
        name: what users ask for.
        summary: one line.
        aliases: other names.
        factory: where what makes it is.
        options: option → its default as text; empty text where it has none.
    """

    kind: str
    name: str
    summary: str
    aliases: tuple[str, ...]
    factory: str
    options: dict[str, str]


@attrs.frozen(kw_only=True)
class PluginInfo:
    """One installed plugin.

    Args:
        provider: who it is, and whether it works.
        module: what its entry point names.
        summary: of its distribution.
        requires: what its distribution needs.
        api_version: of the plugin API, as it states it; None when it does not.
        hooks: that it implements.
        components: that it gives.
        problems: what is wrong with it, in sentences.
    """

    provider: Provider
    module: str
    summary: str
    requires: tuple[str, ...]
    api_version: int | None
    hooks: tuple[str, ...]
    components: tuple[ComponentInfo, ...]
    problems: tuple[str, ...]


def providers_named(name: str) -> list[Provider]:
    """The installed plugins of that entry-point or distribution name; nothing is imported.

    Raises:
        UnknownPluginError: when there is none.
    """
    everyone = [found.provider for found in installed()]
    found = [provider for provider in everyone if name in {provider.name, provider.distribution}]
    if not found:
        third = [provider.name for provider in everyone if not provider.is_builtin]
        raise UnknownPluginError(
            f"no plugin or distribution {name!r} is installed; third-party plugins: {', '.join(third) or 'none'}. "
            "`monoquant plugins` lists all, with the components they give"
        )
    return found


def tell(manager: PluginManager, provider: Provider) -> PluginInfo:
    """All that is known of a plugin.

    Args:
        manager: with all installed plugins.
        provider: as `providers_named` gives it.
    """
    found = next(one for one in discover(autoload=True) if one.provider.key == provider.key)
    module = next(one.point.value for one in installed() if one.provider.key == provider.key)
    known = next((one for one in manager.providers if one.key == provider.key), found.provider)
    records = [
        record for registry in manager.registries.values() for record in registry if record.provider.key == provider.key
    ]
    summary, requires = _metadata(provider.distribution)
    return PluginInfo(
        provider=known,
        module=module,
        summary=summary,
        requires=requires,
        api_version=None if found.plugin is None else stated_version(found.plugin),
        hooks=() if found.plugin is None else tuple(hooks_of(found.plugin)),
        components=tuple(_component(manager, record) for record in records),
        problems=tuple(_problems(manager, known, records)),
    )


def _metadata(distribution: str) -> tuple[str, tuple[str, ...]]:
    try:
        found = metadata(distribution)
    except PackageNotFoundError:
        return "", ()
    return "; ".join(found.get_all("Summary") or ()), tuple(found.get_all("Requires-Dist") or ())


def _component(manager: PluginManager, record: Registered[ComponentSpec]) -> ComponentInfo:
    spec = record.spec
    factory = spec.factory if isinstance(spec.factory, str) else _name_of(spec.factory)
    try:
        options = option_defaults(record, but=_COMMON.get(type(spec), {}))
    except MonoQuantError:  # it cannot be imported: one of the problems
        options = {}
    kind = manager.registries[type(spec)].kind
    return ComponentInfo(
        kind=kind, name=spec.name, summary=spec.summary, aliases=spec.aliases, factory=factory, options=options
    )


def _name_of(factory: object) -> str:
    """Where a factory is; as Python shows it where it has no name, as a ``partial`` has none."""
    name = getattr(factory, "__qualname__", None)
    return repr(factory) if name is None else f"{factory.__module__}:{name}"


def _problems(manager: PluginManager, provider: Provider, records: list[Registered[ComponentSpec]]) -> Iterator[str]:
    if provider.status != "active":
        yield f"it is {provider.status}: {provider.error}"
    if provider.import_ms > SLOW_IMPORT_MS:
        yield f"its import takes {provider.import_ms / 1e3:.1f} s, which every first Quantizer waits for"
    for record in records:
        spec, registry = record.spec, manager.registries[type(record.spec)]
        what = f"{registry.kind} {spec.name!r}"
        for name in (spec.name, *spec.aliases):
            others = [
                one.provider for one in registry if one is not record and name in {one.spec.name, *one.spec.aliases}
            ]
            if others:
                yield f"{what}: the name {name!r} is also claimed by {' and '.join(map(str, others))}"
        yield from (f"{what}: {deprecated}" for deprecated in deprecated_fields(spec))
        yield from _problems_of_the_component(record, what, registry.kind)


def _problems_of_the_component(record: Registered[ComponentSpec], what: str, kind: str) -> Iterator[str]:
    common = _COMMON.get(type(record.spec), {})
    try:
        made = type(make(record, kind, _INTERFACES[type(record.spec)], {}, **common))
    except ConfigurationError as error:
        if not required_options(record, but=common):
            yield str(error)
            return
        made = resolve(record)  # nothing can be made of it here; when it is a class, its methods can be looked at
    except Exception as error:  # noqa: BLE001 - a factory can raise anything
        yield f"{what} cannot be made: {type(error).__name__}: {error}"
        return
    if isinstance(made, type):
        yield from (f"{what}: {deprecated}" for deprecated in deprecated_methods(made))
