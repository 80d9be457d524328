"""Finding the installed plugins: find, load, classify. Once for the process; `refresh` starts over."""

import importlib
import os
import re
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

import attrs

from mono_quant._plugins.provider import OWN_DISTRIBUTION, Provider
from mono_quant._plugins.trace import log, trace_if_asked
from mono_quant.errors import PluginError

__all__ = ["Discovered", "Installed", "discover", "installed", "refresh"]

GROUP = "mono_quant.plugins"
_DISABLE_AUTOLOAD = "MONO_QUANT_DISABLE_AUTOLOAD"
_ALLOW = "MONO_QUANT_ALLOW_PLUGINS"
_BLOCK = "MONO_QUANT_BLOCK_PLUGINS"


@attrs.frozen
class Installed:
    """An installed plugin by its metadata alone: nothing of it is imported.

    Args:
        provider: who it is; ``"blocked"`` when a switch keeps it from being imported.
        point: its entry point.
    """

    provider: Provider
    point: EntryPoint


@attrs.frozen(eq=False)
class Discovered:
    """An installed plugin, imported unless it is broken or blocked.

    Args:
        provider: who it is, and whether it could be imported.
        plugin: the imported object; None when there is none.
        error: what its import raised.
    """

    provider: Provider
    plugin: object | None = None
    error: BaseException | None = None


def installed(*, autoload: bool = True) -> Iterator[Installed]:
    """All installed plugins, the built-ins first, then by name; none is imported.

    Args:
        autoload: whether third-party plugins may be imported; otherwise they are named as blocked. The environment can
            say no too: ``MONO_QUANT_DISABLE_AUTOLOAD=1`` for all third parties, ``MONO_QUANT_ALLOW_PLUGINS=a,b`` for
            all but some plugins or distributions, ``MONO_QUANT_BLOCK_PLUGINS=a,b`` for some.
    """
    has_third_parties = autoload and os.environ.get(_DISABLE_AUTOLOAD, "") in {"", "0"}
    allowed, blocked = _names_in(_ALLOW), _names_in(_BLOCK)
    for provider, point in _find():
        names = {_normalized(provider.name), provider.distribution}
        why_not = ""
        if names & blocked:
            why_not = f"named in {_BLOCK}"
        elif not provider.is_builtin and not has_third_parties:
            why_not = "autoload is off"
        elif not provider.is_builtin and allowed and not names & allowed:
            why_not = f"not named in {_ALLOW}"
        yield Installed(attrs.evolve(provider, status="blocked", error=why_not) if why_not else provider, point)


def discover(*, autoload: bool) -> Iterator[Discovered]:
    """The same, imported unless they are blocked.

    Raises:
        PluginError: when a built-in cannot be imported.
    """
    trace_if_asked()
    for found in installed(autoload=autoload):
        if found.provider.status == "blocked":
            log.debug("%s is blocked: %s", found.provider, found.provider.error)
            yield Discovered(found.provider)
        else:
            yield _load(found.provider, found.point)


def refresh() -> None:
    """Forget what was found and loaded, so that a plugin installed meanwhile is seen."""
    _find.cache_clear()
    _load.cache_clear()
    importlib.invalidate_caches()


@cache
def _find() -> tuple[tuple[Provider, EntryPoint], ...]:
    """Our entry points and who has them; a distribution that is found twice on the path counts once."""
    unique: dict[tuple[str, str, str], tuple[Provider, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        provider = _provider(point)
        unique.setdefault((provider.distribution, point.name, point.value), (provider, point))
    return tuple(unique[key] for key in sorted(unique, key=lambda key: (key[0] != OWN_DISTRIBUTION, key[1:], key[0])))


def _provider(point: EntryPoint) -> Provider:
    try:
        name, version = point.dist.name, point.dist.version  # type: ignore[union-attr]
        return Provider(name=point.name, distribution=_normalized(name), version=version)
    except (AttributeError, KeyError, TypeError, OSError):  # no METADATA: a half-removed distribution
        return Provider(name=point.name, distribution="unknown-distribution")


def _names_in(switch: str) -> set[str]:
    return {_normalized(name) for name in os.environ.get(switch, "").split(",") if name.strip()}


def _normalized(name: str) -> str:
    """As packaging tools compare names: https://packaging.python.org/en/latest/specifications/name-normalization/."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@cache  # by provider too: entry points of two distributions are equal when their names and values are
def _load(provider: Provider, point: EntryPoint) -> Discovered:
    start = time.perf_counter()
    try:
        plugin = point.load()
    except (Exception, SystemExit) as error:  # a plugin's import can raise anything
        message = f"importing {point.value!r} raised {type(error).__name__}: {error}"
        if provider.distribution == OWN_DISTRIBUTION:
            raise PluginError(f"built-in plugin {provider}: {message}") from error
        return Discovered(attrs.evolve(provider, status="broken", error=message), error=error)
    took_ms = (time.perf_counter() - start) * 1e3
    log.debug("%s: imported %s in %.1f ms", provider, point.value, took_ms)
    return Discovered(attrs.evolve(provider, import_ms=took_ms), plugin)
