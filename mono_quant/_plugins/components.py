"""The components of one run: made from the registries as a configuration asks."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mono_quant._plugins.compatibility import deprecated_methods
from mono_quant._plugins.factory import make, required_options
from mono_quant._plugins.formats import format_for, format_name
from mono_quant._plugins.manager import PluginManager, warn_once
from mono_quant._plugins.provenance import differences, missing
from mono_quant._plugins.registry import Registered, Registry
from mono_quant._user_line import level_of_the_user
from mono_quant.calibration.data import as_batch
from mono_quant.component import Wanted
from mono_quant.config import KEEP, Component, Override, QuantizationConfig
from mono_quant.core.selection import first_match
from mono_quant.errors import ArtifactError, CalibrationError, PluginConflictError, PluginWarning, UnknownPluginError
from mono_quant.plugin_api import (
    Algorithm,
    Batch,
    Format,
    Kernel,
    Observer,
    Runtime,
    Scheme,
    Source,
    SourceSpec,
    TensorSpec,
    Validator,
)
from mono_quant.version import __version__

__all__ = ["Components"]


class Components:
    """Makes each component when it is first needed.

    Args:
        config: names and options.
        manager: knows what there is.
        batch_fn: option of the source, when given.
    """

    def __init__(
        self,
        config: QuantizationConfig,
        manager: PluginManager,
        batch_fn: Callable[[Any], Any] | None = None,
    ) -> None:
        self.config = config
        self.manager = manager
        self._batch_fn = batch_fn
        self._schemes: dict[int, Scheme] = {}
        self._source: Registered[SourceSpec] | None = None  # the one that the run reads its data with

    def refuse_unknown(self) -> None:
        """Look up every name in the configuration, those that this run may not come to need as well.

        Raises:
            UnknownPluginError: when nothing has one of them.
            PluginConflictError: when two installed plugins claim one.
        """
        _ = self._named

    def with_config(self, config: QuantizationConfig) -> "Components":
        """The same plugins, for another configuration."""
        return Components(config, self.manager, self._batch_fn)

    def scheme(self, name: str) -> Scheme:
        """The scheme of a registry name with its default options, as loading needs it."""
        return self.scheme_of(Component(name))

    def scheme_of(self, wanted: Component) -> Scheme:
        """The scheme that is asked for, with its options."""
        return self._make(self.manager.schemes, wanted, Scheme)  # type: ignore[no-any-return]

    def scheme_for(self, name: str, module: nn.Module, *, also: Iterable[str] = ()) -> Scheme:
        """The scheme that a layer is planned and converted with; ``also`` are its other names."""
        wanted = self.scheme_component(name, module, also=also)
        if id(wanted) not in self._schemes:
            self._schemes[id(wanted)] = self._make(self.manager.schemes, wanted, Scheme)
        return self._schemes[id(wanted)]

    def scheme_component(self, name: str, module: nn.Module, *, also: Iterable[str] = ()) -> Component:
        """How that scheme is asked for."""
        return self._override((name, *also), module).scheme or self.config.scheme

    def scheme_name_for(self, name: str, module: nn.Module, *, also: Iterable[str] = ()) -> str:
        """The registry name of that scheme."""
        return self.scheme_component(name, module, also=also).name

    def observer_for(self, name: str, module: nn.Module, spec: TensorSpec, *, also: Iterable[str] = ()) -> Observer:
        """A new observer for what a plan asks to be observed; ``also`` are the other names of the layer."""
        return self.observer_of(self.observer_component(name, module, also=also), spec)

    def observer_of(self, wanted: Component, spec: TensorSpec) -> Observer:
        """A new observer that is asked for by name and options."""
        return self._make(  # type: ignore[no-any-return]
            self.manager.observers, wanted, Observer,
            dtype=spec.dtype, symmetric=spec.symmetric, granularity=spec.granularity,
        )  # fmt: skip

    def observer_component(self, name: str, module: nn.Module, *, also: Iterable[str] = ()) -> Component:
        """How that observer is asked for."""
        return self._override((name, *also), module).observer or self.config.observer

    def source_for(self, data: object) -> Source:
        """The source that reads ``data``; `versions` counts it in until `prepare` begins the next run.

        Raises:
            CalibrationError: when none accepts it.
            PluginConflictError: when several do and the configuration names none.
        """
        options = {} if self._batch_fn is None else {"batch_fn": self._batch_fn}
        if self.config.source is not None:
            return self._use_source(self.config.source.name, {**options, **self.config.source.options})
        names = self.manager.sources.names()
        accepting: list[str] = []
        unasked: list[str] = []
        for name in names:
            with self._excusing(self.manager.sources, name):
                if required := required_options(self.manager.sources.get(name)):
                    unasked.append(_why_unasked(name, required))
                elif self._make(self.manager.sources, Component(name), Source).accepts(data):
                    accepting.append(name)
        if not accepting:
            message = (
                f"no source reads calibration data of type {type(data).__name__}; there are: "
                f"{', '.join(names) or 'none'}. Give a DataLoader, a list of tensors or any iterable of batches"
                f"{'; torch.from_numpy makes a tensor of an array' if hasattr(data, '__array__') else ''}"
            )
            raise CalibrationError("\n  ".join([message, *unasked, *self.manager.unused()]))
        if len(accepting) > 1:
            raise PluginConflictError(
                f"calibration data of type {type(data).__name__} is read by the sources {' and '.join(accepting)}; "
                f"choose one with source={accepting[0]!r}"
            )
        return self._use_source(accepting[0], options)

    def batch_of(self, item: object) -> Batch:
        """One item of calibration data as a batch, through the user's ``batch_fn``.

        Raises:
            CalibrationError: when it is none.
        """
        if self._batch_fn is not None and not isinstance(item, Batch):
            item = self._batch_fn(item)
        return as_batch(item, "the example")

    @cached_property
    def validators(self) -> list[Validator]:
        """The checks of the configuration, in order."""
        return [self._make(self.manager.validators, wanted, Validator) for wanted in self.config.validators]

    @cached_property
    def algorithms(self) -> tuple[tuple[str, Algorithm], ...]:
        """The rewrites of the configuration, in order, by the names that they are asked for."""
        made = (self._make(self.manager.algorithms, wanted, Algorithm) for wanted in self.config.algorithms)
        return tuple((wanted.name, algorithm) for wanted, algorithm in zip(self.config.algorithms, made, strict=True))

    def algorithm(self, name: str) -> Algorithm:
        """The algorithm of a registry name, as loading needs it."""
        return self._make(self.manager.algorithms, Component(name), Algorithm)  # type: ignore[no-any-return]

    @cached_property
    def kernels(self) -> tuple[tuple[str, Kernel], ...]:
        """All kernels, by name; one that is asked for by an alias goes by it, and an unknown name is refused here."""
        registry, wanted = self.manager.kernels, self.config.kernel
        named = registry.get(wanted).spec.name if wanted != "auto" else ""
        kernels: list[tuple[str, Kernel]] = []
        for name in registry.names():
            if name == named:
                kernels.append((wanted, self._make(registry, Component(wanted), Kernel)))
                continue
            with self._excusing(registry, name):
                if not required_options(registry.get(name)):
                    kernels.append((name, self._make(registry, Component(name), Kernel)))
        return tuple(kernels)

    def runtime(self, wanted: Component) -> tuple[str, Runtime]:
        """The runtime that is asked for, by the name that it is asked for."""
        return wanted.name, self._make(self.manager.runtimes, wanted, Runtime)

    @property
    def runtimes(self) -> tuple[tuple[str, Runtime], ...]:
        """All runtimes that can be made without options, by name."""
        registry = self.manager.runtimes
        runtimes: list[tuple[str, Runtime]] = []
        for name in registry.names():
            with self._excusing(registry, name):
                if not required_options(registry.get(name)):
                    runtimes.append((name, self._make(registry, Component(name), Runtime)))
        return tuple(runtimes)

    @property
    def runtime_versions(self) -> dict[str, str]:
        """Of mono_quant, torch and the distributions that give the runtimes: name → version."""
        providers = (self.manager.runtimes.get(name).provider for name, _ in self.runtimes)
        given = {provider.distribution: provider.version for provider in providers if provider.distribution}
        return {**given, "mono-quant": __version__, "torch": torch.__version__}

    @contextmanager
    def comparing(self, manifest: Mapping[str, Any] | None) -> Iterator[None]:
        """Around loading a file: warn where its schemes and algorithms come from elsewhere than when it was made.

        Args:
            manifest: of the file, as JSON values; None when it has none.

        Raises:
            UnknownPluginError: the one from within, with the distributions that the file was made with and are missing.
        """
        versions = (manifest or {}).get("versions")
        made_with = dict(versions) if isinstance(versions, Mapping) else {}  # what is wrong with it is found in loading
        try:
            yield
        except UnknownPluginError as error:
            gone = missing(made_with, (provider.distribution for provider in self.manager.providers))
            if not gone:
                raise
            raise UnknownPluginError(
                f"{error}\n  not installed, and the file was made with: {', '.join(gone)}"
            ) from error
        if manifest is None:
            return
        schemes = {plan["scheme"] for plan in manifest["layers"].values()}
        algorithms = {rewrite["algorithm"] for rewrite in manifest["rewrites"]}
        used = [self.manager.schemes.get(name) for name in sorted(schemes)]
        used_too = [self.manager.algorithms.get(name) for name in sorted(algorithms)]
        for difference in differences(made_with, [*used, *used_too]):
            warnings.warn(difference, PluginWarning, stacklevel=level_of_the_user())

    def prepare(self) -> None:
        """Begin a run: make what is asked for, so that an unknown name or option is refused before any work is done."""
        self._source = None
        self.refuse_unknown()
        _ = self.validators, self.algorithms, self.kernels

    def format_for(self, path: str | Path, named: Wanted | None = None) -> Format:
        """The format that is named, or that of a file name or folder."""
        return format_for(path, self.manager, named)

    def format_to_save(self, path: str | Path, named: Wanted | None = None) -> Format:
        """The format that is named; or that of the configuration, unless a file name chooses another one."""
        wanted = self.config.format
        if named is None and wanted is not None:
            try:
                is_another = format_name(path, self.manager) != wanted.name
            except ArtifactError:  # the file name chooses none
                is_another = False
            named = None if is_another else wanted
        return format_for(path, self.manager, named)

    def refusing_format(self, path: str | Path) -> str | None:
        """The name of the format that a file name chooses, if it may refuse layers; None if it holds all."""
        chosen = self.format_for(path)
        return format_name(path, self.manager) if type(chosen).refusals is not Format.refusals else None

    @property
    def wanted_format(self) -> Format | None:
        """The format of the configuration; None where it names none."""
        return None if self.config.format is None else self.format_for("", self.config.format)

    @property
    def versions(self) -> dict[str, str]:
        """Of mono_quant, torch and the distributions whose components take part in the run: name → version.

        These are the components that the configuration names, the source that reads the data, and all kernels that
        layers can choose from. Formats are not among them: which one saves the model is not known in the run.
        """
        kernels = (self.manager.kernels.get(name) for name, _ in self.kernels)
        used: list[Registered[Any]] = [*self._named, *kernels, *([self._source] if self._source else [])]
        plugins = {record.provider.distribution: record.provider.version for record in used}
        plugins.pop("", None)
        return {**plugins, "mono-quant": __version__, "torch": torch.__version__}

    @cached_property
    def _named(self) -> list[Registered[Any]]:
        """The records of all components that the configuration names."""
        config, manager = self.config, self.manager
        changes = [change for change in config.overrides.values() if change is not None]
        wanted: list[tuple[Registry[Any], Iterable[Component | None]]] = [
            (manager.schemes, [config.scheme, *(change.scheme for change in changes)]),
            (manager.observers, [config.observer, *(change.observer for change in changes)]),
            (manager.sources, [config.source]),
            (manager.validators, config.validators),
            (manager.algorithms, config.algorithms),
            (manager.kernels, [Component(config.kernel) if config.kernel != "auto" else None]),
            (manager.runtimes, [config.runtime if config.runtime.name != "auto" else None]),
            (manager.schemes, [config.on_refusal if config.on_refusal.name not in {"error", KEEP} else None]),
        ]
        return [registry.get(one.name) for registry, components in wanted for one in components if one is not None]

    def _use_source(self, name: str, options: dict[str, Any]) -> Source:
        self._source = self.manager.sources.get(name)
        return self._make(self.manager.sources, Component(name, options), Source)  # type: ignore[no-any-return]

    def _override(self, names: Iterable[str], module: nn.Module) -> Override:
        """What the first matching override says; nothing when none matches."""
        pattern = first_match(self.config.overrides, names, module)
        return (self.config.overrides[pattern] if pattern is not None else None) or Override()

    @contextmanager
    def _excusing(self, registry: Registry[Any], name: str) -> Iterator[None]:
        """Around work with a component that nobody named: when a third party's fails, it is left out with a warning."""
        try:
            yield
        except PluginConflictError as error:
            warn_once(f"{registry.kind} {name}", str(error))
        except Exception as error:  # a third party's code can raise anything
            provider = registry.get(name).provider
            if provider.is_builtin or provider.is_explicit:
                raise
            self.manager.give_up(provider, f"{registry.kind} {name!r}: {type(error).__name__}: {error}", error)

    def _make(self, registry: Registry[Any], wanted: Component, interface: type, **common: object) -> Any:  # noqa: ANN401
        registered = registry.get(wanted.name)
        component = make(registered, registry.kind, interface, wanted.options, **common)
        for deprecated in deprecated_methods(type(component)):
            who = f"plugin {registered.provider}, {registry.kind} {registered.spec.name!r}"
            warn_once(f"{who} {deprecated}", f"{who}: {deprecated}")
        return component


def _why_unasked(source: str, required: Iterable[str]) -> str:
    options = "".join(f", {option!r}: ..." for option in required)
    return (
        f"source {source!r} was not asked, since it cannot be made without options; "
        f"name it if it is meant: source={{'name': {source!r}{options}}}"
    )
