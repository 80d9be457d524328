"""One manager for each `Quantizer`: registers plugins and knows which of them gave which record."""

import inspect
import os
import types
import warnings
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import attrs
import pluggy

from mono_quant._plugins.clashes import refuse_taken
from mono_quant._plugins.compatibility import deprecated_fields, refuse_incompatible
from mono_quant._plugins.discovery import Discovered, discover
from mono_quant._plugins.provider import Provider
from mono_quant._plugins.registry import Registry
from mono_quant._plugins.trace import log
from mono_quant._user_line import level_of_the_user
from mono_quant.errors import PluginConflictError, PluginError, PluginWarning
from mono_quant.plugin_api import hookspecs
from mono_quant.plugin_api.markers import HOOK_PREFIX, PROJECT
from mono_quant.plugin_api.specs import (
    AlgorithmSpec,
    ComponentSpec,
    FormatSpec,
    KernelSpec,
    ObserverSpec,
    RuntimeSpec,
    SchemeSpec,
    SourceSpec,
    ValidatorSpec,
)

__all__ = ["SLOW_IMPORT_MS", "PluginManager", "hooks_of", "warn_once"]

SLOW_IMPORT_MS = 1000

_STRICT = "MONO_QUANT_STRICT_PLUGINS"

_warned: set[str] = set()


class PluginManager(pluggy.PluginManager):
    """The components that one `Quantizer` can use, one registry for each kind.

    Args:
        strict: whether an installed plugin that is broken raises; None asks ``MONO_QUANT_STRICT_PLUGINS``.
    """

    def __init__(self, *, strict: bool | None = None) -> None:
        super().__init__(PROJECT)
        self._is_strict = os.environ.get(_STRICT, "") not in {"", "0"} if strict is None else strict
        self.providers: list[Provider] = []
        self.observers: Registry[ObserverSpec] = Registry("observer", self.unused)
        self.sources: Registry[SourceSpec] = Registry("source", self.unused)
        self.schemes: Registry[SchemeSpec] = Registry("scheme", self.unused)
        self.formats: Registry[FormatSpec] = Registry("format", self.unused)
        self.validators: Registry[ValidatorSpec] = Registry("validator", self.unused)
        self.kernels: Registry[KernelSpec] = Registry("kernel", self.unused)
        self.algorithms: Registry[AlgorithmSpec] = Registry("algorithm", self.unused)
        self.runtimes: Registry[RuntimeSpec] = Registry("runtime", self.unused)
        self.registries: dict[type[ComponentSpec], Registry[Any]] = {
            ObserverSpec: self.observers,
            SourceSpec: self.sources,
            SchemeSpec: self.schemes,
            FormatSpec: self.formats,
            ValidatorSpec: self.validators,
            KernelSpec: self.kernels,
            AlgorithmSpec: self.algorithms,
            RuntimeSpec: self.runtimes,
        }
        self._active: dict[str, Provider] = {}  # by pluggy's name of the plugin
        self._collected: dict[str, Sequence[ComponentSpec]] = {}  # by hook, of the plugin that is being registered
        self.add_hookspecs(hookspecs)
        for name, spec_type in hookspecs.HOOKS.items():
            # Historic: called once here, with no plugin yet; from now on pluggy calls each plugin that is registered,
            # alone, so that what is collected during a registration comes from that plugin.
            getattr(self.hook, name).call_historic(result_callback=self._collector(name, spec_type))

    @classmethod
    def with_plugins(
        cls, plugins: Iterable[object] = (), *, autoload: bool = True, strict: bool | None = None
    ) -> "PluginManager":
        """A manager with the built-ins, the installed plugins and then ``plugins``.

        Raises:
            PluginError: when a built-in or one of ``plugins`` cannot be registered, or, when it is strict, any
                installed plugin.
        """
        passed = [_imported(plugin) for plugin in plugins]
        manager = cls(strict=strict)
        for found in discover(autoload=autoload):
            manager._add_installed(found, is_passed=any(found.plugin is plugin for plugin in passed))
        for plugin in passed:
            manager.add(plugin)
        return manager

    def add(self, plugin: object) -> None:
        """Register a plugin that the user passed: a module, an instance, or an import path as text.

        Raises:
            PluginError: when it cannot be imported or breaks the contract.
        """
        plugin = _imported(plugin)
        known = self.get_name(plugin)
        if known is not None:
            self._prefer(known)
            return
        name = plugin.__name__ if isinstance(plugin, types.ModuleType | type) else type(plugin).__name__
        provider = Provider(name=name, is_explicit=True)
        try:
            self._add(plugin, provider)
        except PluginError as error:
            raise PluginError(f"plugin {provider}: {error}") from error

    def give_up(self, provider: Provider, error: str, cause: BaseException | None) -> None:
        """Note that a third party's plugin is broken, and warn of it once in this process.

        Raises:
            PluginError: from ``cause``, which has the plugin's own traceback, when the manager is strict.
        """
        log.debug("%s is broken: %s", provider, error)
        if self._is_strict:
            kind = PluginConflictError if isinstance(cause, PluginConflictError) else PluginError
            raise kind(f"plugin {provider}: {error}") from cause
        broken = attrs.evolve(provider, status="broken", error=error)
        self.providers = [*(one for one in self.providers if one not in {provider, broken}), broken]
        warn_once(str(provider), f"plugin {provider} is not used: {error}")

    def unused(self) -> list[str]:
        """The plugins that are broken or blocked, with the reasons, in lines for a message."""
        broken = [f"plugin {p} could not be used: {p.error}" for p in self.providers if p.status == "broken"]
        blocked: dict[str, list[str]] = {}
        for provider in self.providers:
            if provider.status == "blocked":
                blocked.setdefault(provider.error, []).append(str(provider))
        return broken + [f"blocked, because {why}: {', '.join(who)}" for why, who in blocked.items()]

    def components(self, provider: Provider) -> dict[str, list[str]]:
        """What a provider gave: kind → names."""
        given = {
            registry.kind: [record.spec.name for record in registry if record.provider == provider]
            for registry in self.registries.values()
        }
        return {kind: names for kind, names in given.items() if names}

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:  # noqa: ANN401 - pluggy's own return type
        """Look at functions with our prefix only: no property or lazy export of a plugin runs."""
        return super().parse_hookimpl_opts(plugin, name) if _is_hook(plugin, name) else None

    def _collector(self, hook: str, spec_type: type[ComponentSpec]) -> Any:  # noqa: ANN401
        def collect(records: object) -> None:
            if not isinstance(records, list | tuple):
                raise PluginError(f"{hook} must return a list of {spec_type.__name__}, got {records!r}")
            for record in records:
                if type(record) is not spec_type:
                    raise PluginError(f"{hook} must return {spec_type.__name__} records, got {record!r}")
            self._collected[hook] = records

        return collect

    def _prefer(self, name: str) -> None:
        """Treat a registered plugin as one that the user passed."""
        old = self._active[name]
        new = self._active[name] = attrs.evolve(old, is_explicit=True)
        self.providers[self.providers.index(old)] = new
        for registry in self.registries.values():
            registry.hand_over(old, new)

    def _check_answers(self, hooks: Iterable[str]) -> None:
        for hook in hooks:
            if hook not in self._collected:  # pluggy does not hand on a result of None
                raise PluginError(f"{hook} must return a list of {hookspecs.HOOKS[hook].__name__}, got None")

    def _add_installed(self, found: Discovered, *, is_passed: bool) -> None:
        provider = attrs.evolve(found.provider, is_explicit=is_passed)
        if provider.status == "active":
            self._tell_if_slow(provider)
            try:
                self._add(found.plugin, provider)
            except PluginError as error:
                if provider.is_builtin:
                    raise PluginError(f"built-in plugin {provider}: {error}") from error
                self.give_up(provider, str(error), error)
        elif provider.status == "broken":
            self.give_up(provider, provider.error, found.error)
        else:
            self.providers.append(provider)

    @staticmethod
    def _tell_if_slow(provider: Provider) -> None:
        if provider.import_ms > SLOW_IMPORT_MS and not provider.is_builtin:
            warn_once(
                f"{provider} is slow",
                f"plugin {provider} took {provider.import_ms / 1e3:.1f} s to import, which every first Quantizer waits "
                "for: let its records name their factories as 'package.module:Class', which are imported on first use",
            )

    def _add(self, plugin: object, provider: Provider) -> None:
        """Register; when that fails, nothing of the plugin stays behind."""
        known = self.get_name(plugin)
        if known is not None:
            raise PluginError(f"it is the same object as {self._active[known]}")
        self._collected.clear()
        name = f"{provider.distribution}:{provider.name}:{id(plugin)}"
        try:
            hooks = _check(plugin)
            self.register(plugin, name=name)
            self.check_pending()
            self._check_answers(hooks)
            records = [record for given in self._collected.values() for record in given]
            if not provider.is_builtin and not provider.is_explicit:
                refuse_taken(records, self.registries, provider)
        except (Exception, SystemExit) as error:  # a hook can raise anything
            if self.has_plugin(name):
                self.unregister(name=name)
            if isinstance(error, PluginError):
                raise
            raise PluginError(f"{type(error).__name__}: {error}") from error
        self._active[name] = provider
        self.providers.append(provider)
        for record in records:
            self.registries[type(record)].add(record, provider)
        for record in records:
            for deprecated in deprecated_fields(record):
                warn_once(f"{provider} {deprecated}", f"plugin {provider}, record {record.name!r}: {deprecated}")
        log.debug("%s is registered: %s", provider, self.components(provider))


def _imported(plugin: object) -> object:
    """A plugin that a user passed, imported when it is the path of a module."""
    if not isinstance(plugin, str):
        return plugin
    try:
        return import_module(plugin)
    except (Exception, SystemExit) as error:  # its import can raise anything
        raise PluginError(f"plugin {plugin!r} cannot be imported: {type(error).__name__}: {error}") from error


def warn_once(about: str, message: str) -> None:
    """Warn, at the user's line, unless there was a warning about the same thing in this process."""
    if about not in _warned:
        _warned.add(about)
        warnings.warn(message, PluginWarning, stacklevel=level_of_the_user())


def hooks_of(plugin: object) -> list[str]:
    """The names of a plugin's functions with our prefix, right or wrong."""
    return [name for name in dir(plugin) if _is_hook(plugin, name)]


def _check(plugin: object) -> list[str]:
    """The names of a plugin's hooks.

    Raises:
        PluginError: naming what is wrong with it.
    """
    if inspect.isclass(plugin):
        raise PluginError(f"{plugin.__name__} is a class; pass an instance of it")
    refuse_incompatible(plugin)
    hooks = hooks_of(plugin)
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
    return hooks


def _is_hook(plugin: object, name: str) -> bool:
    """Whether a name has our prefix and is a function; a property or another descriptor is not even read."""
    if not name.startswith(HOOK_PREFIX):
        return False
    found = inspect.getattr_static(plugin, name, None)
    return isinstance(found, types.FunctionType | types.MethodType | staticmethod | classmethod)
