"""Finding the installed plugins: find, load, classify. Once for the process; `refresh` starts over."""

import os
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

import attrs

from mono_quant._plugins.provider import OWN_DISTRIBUTION, Provider
from mono_quant.errors import PluginError

__all__ = ["Discovered", "discover", "refresh"]

GROUP = "mono_quant.plugins"
_DISABLE_AUTOLOAD = "MONO_QUANT_DISABLE_AUTOLOAD"
_BLOCK = "MONO_QUANT_BLOCK_PLUGINS"


@attrs.frozen(eq=False)
class Discovered:
    """An installed plugin: who it is, and the imported object unless it is broken or blocked."""

    provider: Provider
    plugin: object | None


def discover(*, autoload: bool) -> Iterator[Discovered]:
    """All installed plugins, the built-ins first, then by name.

    Args:
        autoload: whether third-party plugins are imported; otherwise they are named as blocked. The environment can
            say no
            too: ``MONO_QUANT_DISABLE_AUTOLOAD=1`` for all third parties, ``MONO_QUANT_BLOCK_PLUGINS=a,b`` for some
                plugins
            or distributions.

    Raises:
        PluginError: when a built-in cannot be imported.
    """
    third_parties = autoload and os.environ.get(_DISABLE_AUTOLOAD, "") in {"", "0"}
    blocked = {name.strip() for name in os.environ.get(_BLOCK, "").split(",") if name.strip()}
    for point in _find():
        provider = _provider(point)
        if {provider.name, provider.distribution} & blocked:
            yield Discovered(attrs.evolve(provider, status="blocked", error=f"named in {_BLOCK}"), None)
        elif not (third_parties or provider.is_builtin):
            yield Discovered(attrs.evolve(provider, status="blocked", error="autoload is off"), None)
        else:
            yield _load(point)


def refresh() -> None:
    """Forget what was found and loaded, so that a plugin installed meanwhile is seen."""
    _find.cache_clear()
    _load.cache_clear()


@cache
def _find() -> tuple[EntryPoint, ...]:
    """Our entry points; a distribution that is found twice on the path counts once."""
    unique = {(_provider(point).distribution, point.name, point.value): point for point in entry_points(group=GROUP)}
    return tuple(sorted(unique.values(), key=lambda point: (not _provider(point).is_builtin, point.name, point.value)))


def _provider(point: EntryPoint) -> Provider:
    dist = point.dist
    if dist is None:
        return Provider(name=point.name, distribution="unknown distribution")
    return Provider(name=point.name, distribution=dist.name.lower().replace("_", "-"), version=dist.version)


@cache
def _load(point: EntryPoint) -> Discovered:
    provider = _provider(point)
    start = time.perf_counter()
    try:
        plugin = point.load()
    except Exception as error:  # a plugin's import can raise anything
        message = f"importing {point.value!r} raised {type(error).__name__}: {error}"
        if provider.distribution == OWN_DISTRIBUTION:
            raise PluginError(f"built-in plugin {provider}: {message}") from error
        return Discovered(attrs.evolve(provider, status="broken", error=message), None)
    return Discovered(attrs.evolve(provider, import_ms=(time.perf_counter() - start) * 1e3), plugin)
