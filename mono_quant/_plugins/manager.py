"""One manager for each `Quantizer`: registers plugins and knows which of them gave which record."""

import inspect
import os
import types
import warnings
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import attrs
import pluggy

from mono_quant._plugins.discovery import discover
from mono_quant._plugins.provider import Provider
from mono_quant._plugins.registry import Registry, SpecT
from mono_quant.errors import PluginError, PluginWarning
from mono_quant.plugin_api import hookspecs
from mono_quant.plugin_api.markers import API_VERSION, HOOK_PREFIX, PROJECT
from mono_quant.plugin_api.specs import (
    AlgorithmSpec,
    ComponentSpec,
    FormatSpec,
    KernelSpec,
    ObserverSpec,
    SchemeSpec,
    SourceSpec,
    ValidatorSpec,
)

__all__ = ["PluginManager"]

_warned: set[str] = set()


class PluginManager(pluggy.PluginManager):
    """The components that one `Quantizer` can use, one registry for each kind."""

    def __init__(self) -> None:
        super().__init__(PROJECT)
        self.providers: list[Provider] = []
        self.observers = self._registry("observer", ObserverSpec)
        self.sources = self._registry("source", SourceSpec)
        self.schemes = self._registry("scheme", SchemeSpec)
        self.formats = self._registry("format", FormatSpec)
        self.validators = self._registry("validator", ValidatorSpec)
        self.kernels = self._registry("kernel", KernelSpec)
        self.algorithms = self._registry("algorithm", AlgorithmSpec)
        self.registries: dict[type[ComponentSpec], Registry[Any]] = {
            ObserverSpec: self.observers,
            SourceSpec: self.sources,
            SchemeSpec: self.schemes,
            FormatSpec: self.formats,
            ValidatorSpec: self.validators,
            KernelSpec: self.kernels,
            AlgorithmSpec: self.algorithms,
        }
        self._collected: list[ComponentSpec] = []
        self.add_hookspecs(hookspecs)
        for name, spec_type in hookspecs.HOOKS.items():
            # Historic: called once here, with no plugin yet; from now on pluggy calls each plugin that is registered,
            # alone, so that what is collected during a registration comes from that plugin.
            getattr(self.hook, name).call_historic(result_callback=self._collector(name, spec_type))

    @classmethod
    def with_plugins(cls, plugins: Iterable[object] = (), *, autoload: bool = True) -> "PluginManager":
        """A manager with the built-ins, the installed plugins and then ``plugins``.

        Raises:
            PluginError: when a built-in or one of ``plugins`` cannot be registered, or, with
                ``MONO_QUANT_STRICT_PLUGINS=1``, any installed plugin.
        """
        manager = cls()
        for found in discover(autoload=autoload):
            manager._add_installed(found.provider, found.plugin)
        for plugin in plugins:
            manager.add(plugin)
        return manager

    def add(self, plugin: object) -> None:
        """Register a plugin that the user passed: a module, an instance, or an import path as text.

        Raises:
            PluginError: when it cannot be imported or breaks the contract.
        """
        if isinstance(plugin, str):
            try:
                plugin = import_module(plugin)
            except Exception as error:  # its import can raise anything
                raise PluginError(f"plugin {plugin!r} cannot be imported: {type(error).__name__}: {error}") from error
        if self.is_registered(plugin):
            return
        name = plugin.__name__ if isinstance(plugin, types.ModuleType) else type(plugin).__name__
        self._add(plugin, Provider(name=name))

    def broken(self) -> dict[str, str]:
        """The plugins that could not be used, with the reason."""
        return {str(provider): provider.error for provider in self.providers if provider.status == "broken"}

    def components(self, provider: Provider) -> dict[str, list[str]]:
        """What a provider gave: kind → names."""
        given = {
            registry.kind: [record.spec.name for record in registry if record.provider == provider]
            for registry in self.registries.values()
        }
        return {kind: names for kind, names in given.items() if names}

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:  # noqa: ANN401 - pluggy's own return type
        """Look at names with our prefix only: no property or lazy export of a plugin runs."""
        return super().parse_hookimpl_opts(plugin, name) if name.startswith(HOOK_PREFIX) else None

    def _registry(self, kind: str, _: type[SpecT]) -> Registry[SpecT]:
        return Registry(kind, self.broken)

    def _collector(self, hook: str, spec_type: type[ComponentSpec]) -> Any:  # noqa: ANN401
        def collect(records: object) -> None:
            if not isinstance(records, list | tuple):
                raise PluginError(f"{hook} must return a list of {spec_type.__name__}, got {records!r}")
            for record in records:
                if type(record) is not spec_type:
                    raise PluginError(f"{hook} must return {spec_type.__name__} records, got {record!r}")
            self._collected.extend(records)

        return collect

    def _add_installed(self, provider: Provider, plugin: object | None) -> None:
        if provider.status == "active":
            try:
                self._add(plugin, provider)
            except PluginError as error:
                if provider.is_builtin:
                    raise
                provider = attrs.evolve(provider, status="broken", error=str(error))
            else:
                return
        self.providers.append(provider)
        if provider.status == "broken":
            if os.environ.get("MONO_QUANT_STRICT_PLUGINS", "") not in {"", "0"}:
                raise PluginError(f"plugin {provider}: {provider.error}")
            if str(provider) not in _warned:
                _warned.add(str(provider))
                warnings.warn(f"plugin {provider} is not used: {provider.error}", PluginWarning, stacklevel=5)

    def _add(self, plugin: object, provider: Provider) -> None:
        """Register; when that fails, nothing of the plugin stays behind."""
        self._collected.clear()
        try:
            _check(plugin)
            self.register(plugin, name=f"{provider.distribution}:{provider.name}:{id(plugin)}")
            self.check_pending()
        except Exception as error:  # a hook can raise anything
            if self.is_registered(plugin):
                self.unregister(plugin)
            if isinstance(error, PluginError):
                raise PluginError(f"plugin {provider}: {error}") from error
            raise PluginError(f"plugin {provider}: {type(error).__name__}: {error}") from error
        self.providers.append(provider)
        for record in self._collected:
            self.registries[type(record)].add(record, provider)


def _check(plugin: object) -> None:
    """What can be said about a plugin before it is registered.

    Raises:
        PluginError: naming what is wrong.
    """
    if inspect.isclass(plugin):
        raise PluginError(f"{plugin.__name__} is a class; pass an instance of it")
    wanted = inspect.getattr_static(plugin, "MONO_QUANT_API_VERSION", API_VERSION)
    if wanted != API_VERSION:
        raise PluginError(f"it was written for plugin API {wanted}; this mono_quant has plugin API {API_VERSION}")
    hooks = [name for name in dir(plugin) if name.startswith(HOOK_PREFIX) and inspect.isroutine(getattr(plugin, name))]
    if not hooks:
        raise PluginError(f"it has no hook: no function named {HOOK_PREFIX}*; there are {', '.join(hookspecs.HOOKS)}")
    for name in hooks:
        hook = getattr(plugin, name)
        if not hasattr(hook, f"{PROJECT}_impl"):
            raise PluginError(f"{name} is not marked with @mono_quant.hookimpl")
        if name not in hookspecs.HOOKS:
            raise PluginError(f"{name} is not a hook; there are {', '.join(hookspecs.HOOKS)}")
        if inspect.signature(hook).parameters:
            raise PluginError(f"{name}{inspect.signature(hook)} takes arguments; hooks take none")
