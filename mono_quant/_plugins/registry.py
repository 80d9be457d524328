"""Components of one kind, by name."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import attrs

from mono_quant._plugins.provider import Provider
from mono_quant._plugins.trace import log
from mono_quant.errors import PluginConflictError, UnknownPluginError
from mono_quant.plugin_api.specs import ComponentSpec
from mono_quant.recipe import did_you_mean

__all__ = ["Registered", "Registry"]

SpecT = TypeVar("SpecT", bound=ComponentSpec)


@attrs.frozen
class Registered(Generic[SpecT]):
    """A record and who provides it."""

    spec: SpecT
    provider: Provider


class Registry(Generic[SpecT]):
    """The records of one kind, in the order in which they came.

    Args:
        kind: what to call them in messages: ``"observer"``.
        unused: gives lines about the plugins that are not used, for the message about an unknown name.
    """

    def __init__(self, kind: str, unused: Callable[[], Iterable[str]]) -> None:
        self.kind = kind
        self._unused = unused
        self._records: list[Registered[SpecT]] = []

    def add(self, spec: SpecT, provider: Provider) -> None:
        """Take in a record. A clash of names is no error until one of those names is asked for."""
        self._records.append(Registered(spec, provider))

    def hand_over(self, old: Provider, new: Provider) -> None:
        """Let the records of one provider be those of another, as if they had come last."""
        moved = [attrs.evolve(record, provider=new) for record in self._records if record.provider == old]
        self._records = [record for record in self._records if record.provider != old] + moved

    def __iter__(self) -> Iterator[Registered[SpecT]]:
        return iter(self._records)

    def names(self) -> list[str]:
        """The names that can be asked for, without aliases."""
        return sorted({record.spec.name for record in self._records})

    def get(self, name: str) -> Registered[SpecT]:
        """The record of that name or alias. One that was passed to the `Quantizer` comes before an installed one.

        Raises:
            UnknownPluginError: when nothing has the name.
            PluginConflictError: when two installed plugins claim it.
        """
        claims = [record for record in self._records if name in {record.spec.name, *record.spec.aliases}]
        explicit = [record for record in claims if record.provider.is_explicit]
        if explicit:
            if len(claims) > 1:
                log.info("%s %r: %s shadows %d other(s)", self.kind, name, explicit[-1].provider, len(claims) - 1)
            return explicit[-1]
        if not claims:
            raise UnknownPluginError(self._unknown(name))
        if len(claims) > 1:
            raise PluginConflictError(
                f"{self.kind} {name!r} is claimed by {' and '.join(str(record.provider) for record in claims)}; "
                f"uninstall one of them, or block it with MONO_QUANT_BLOCK_PLUGINS={claims[-1].provider.distribution}"
            )
        return claims[0]

    def _unknown(self, name: str) -> str:
        known = ", ".join(self.names())
        message = f"no {self.kind} is named {name!r}; " + (
            f"there are: {known}" if known else f"no {self.kind} is registered at all: reinstall mono-quant"
        )
        message += ". Others come with the distributions that provide them, see `monoquant plugins`"
        message += did_you_mean(name, self.names())
        return "\n  ".join([message, *self._unused()])
