"""Which format a file is written or read by."""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mono_quant._plugins.factory import make
from mono_quant._plugins.manager import PluginManager
from mono_quant._plugins.registry import Registered
from mono_quant.component import Component, Wanted
from mono_quant.errors import ArtifactError, MonoQuantError, PluginConflictError, PluginError
from mono_quant.plugin_api import FolderFormat, Format, LayerPlan

__all__ = ["format_for", "format_name", "refusals_of"]


def format_for(path: str | Path, manager: PluginManager, named: Wanted | None = None) -> Format:
    """The format that is named; or else that of a folder, or the one that the longest suffix of ``path`` chooses.

    Raises:
        ArtifactError: when no format has the suffix, or none knows the folder.
        ConfigurationError: when the named one has no such option.
        PluginConflictError: when two installed plugins have it.
        UnknownPluginError: when nothing has the name.
    """
    if named is not None:
        wanted = Component.of(named)
        registered = manager.formats.get(wanted.name)
        return make(registered, "format", Format, wanted.options)  # type: ignore[no-any-return]
    return _made(_registered_for(path, manager))


def format_name(path: str | Path, manager: PluginManager) -> str:
    """The registry name of the format that ``path`` chooses; errors as of `format_for`."""
    return _registered_for(path, manager).spec.name  # type: ignore[no-any-return]


def refusals_of(format: Format, layers: Mapping[str, LayerPlan], kept: Collection[str]) -> dict[str, str]:  # noqa: A002
    """What `Format.refusals` says of these layers.

    Raises:
        PluginError: when it fails, or gives something else.
    """
    try:
        found = dict(format.refusals(layers, kept))
    except MonoQuantError:
        raise
    except Exception as error:  # a plugin's code
        raise PluginError(
            f"format {type(format).__name__}: refusals(layers, kept) raised {type(error).__name__}: {error}"
        ) from error
    return {name: why for name, why in found.items() if name in layers}


def _registered_for(path: str | Path, manager: PluginManager) -> Registered[Any]:
    if os.path.isdir(path) and (claims := _of_folder(Path(path), manager)):  # noqa: PTH112 - no error for any name
        return _only(claims, f"folder {path}")
    known = sorted({suffix for registered in manager.formats for suffix in registered.spec.suffixes})
    name = Path(path).name
    suffix = max((suffix for suffix in known if name.endswith(suffix) and name != suffix), key=len, default=None)
    if suffix is None:
        message = f"{path}: no format has the suffix {Path(path).suffix!r}; there are {', '.join(known) or 'none'}"
        if os.path.isdir(path):  # noqa: PTH112
            message = f"{path} is a folder, and no format knows what is in it: give the path of a file"
        raise ArtifactError("\n  ".join([message, *_by_name(manager), *manager.unused()]))
    claims = [registered for registered in manager.formats if suffix in registered.spec.suffixes]
    return _only(claims, f"suffix {suffix!r}")


def _of_folder(path: Path, manager: PluginManager) -> list[Registered[Any]]:
    """The formats that recognize a folder."""
    return [registered for registered, folder in _folders(manager) if folder.recognizes(path)]


def _folders(manager: PluginManager) -> Iterator[tuple[Registered[Any], FolderFormat]]:
    """All formats of folders; only those without a suffix are made to see whether they are."""
    for registered in manager.formats:
        if registered.spec.suffixes:
            continue
        try:
            made = _made(registered)
        except MonoQuantError:
            if registered.provider.is_builtin or registered.provider.is_explicit:
                raise
            continue  # who installed it did not ask for it here; by its name it says what is wrong
        if isinstance(made, FolderFormat):
            yield registered, made


def _only(claims: list[Registered[Any]], what: str) -> Registered[Any]:
    explicit = [registered for registered in claims if registered.provider.is_explicit]
    if len(claims) > 1 and not explicit:
        raise PluginConflictError(
            f"{what} is claimed by {' and '.join(str(registered.provider) for registered in claims)}"
        )
    return (explicit or claims)[-1]


def _made(registered: Registered[Any]) -> Format:
    return make(registered, "format", Format, {})  # type: ignore[no-any-return]


def _by_name(manager: PluginManager) -> list[str]:
    names = sorted(registered.spec.name for registered in manager.formats if not registered.spec.suffixes)
    return [f"chosen by name, with format=... or --format: {', '.join(names)}"] if names else []
