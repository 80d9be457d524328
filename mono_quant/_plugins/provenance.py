"""Whether what a file was made with is what is here: the distributions of its schemes and algorithms."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mono_quant._plugins.provider import OWN_DISTRIBUTION
from mono_quant._plugins.registry import Registered

__all__ = ["differences", "missing"]

_NO_PLUGINS = (OWN_DISTRIBUTION, "torch")


def differences(made_with: Mapping[str, str], used: Iterable[Registered[Any]]) -> Iterator[str]:
    """What differs between the plugins that a file was made with and those that load it, in sentences.

    Args:
        made_with: distribution → version, as the file says.
        used: the records of the schemes and algorithms that load it.
    """
    for record in used:
        name, provider = record.spec.name, record.provider
        if provider.is_builtin or not provider.distribution:  # ours; or passed to the Quantizer, by a user who knows
            continue
        version = made_with.get(provider.distribution)
        if version is None:
            yield f"{name!r} comes from {provider}, which the file was not made with"
        elif version != provider.version:
            yield f"{name!r} comes from {provider}; the file was made with version {version} of it"


def missing(made_with: Mapping[str, str], installed: Iterable[str]) -> list[str]:
    """The distributions of plugins that a file was made with and that are not installed, with their versions."""
    here = {*installed, *_NO_PLUGINS}
    return [f"{name} {version}" for name, version in made_with.items() if name not in here]
