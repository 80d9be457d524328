"""What installed plugins cannot take: the names and suffixes of what comes with mono_quant."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mono_quant._plugins.provider import Provider
from mono_quant._plugins.registry import Registry
from mono_quant.errors import PluginConflictError
from mono_quant.plugin_api.specs import ComponentSpec, FormatSpec

__all__ = ["refuse_taken"]


def refuse_taken(
    records: Iterable[ComponentSpec], registries: Mapping[type[ComponentSpec], Registry[Any]], provider: Provider
) -> None:
    """Refuse records that claim what a built-in has, which every run would stumble over otherwise.

    Args:
        records: of one installed plugin.
        registries: where the built-ins are registered already.
        provider: who gave the records.

    Raises:
        PluginConflictError: naming what is claimed, the built-ins that have it, and the ways out.
    """
    clashes = [clash for record in records for clash in _clashes(record, registries[type(record)])]
    if clashes:
        raise PluginConflictError(
            f"{'; '.join(clashes)}: what is built in stays. The plugin's author should choose another name. "
            f"Until then uninstall it, block it with MONO_QUANT_BLOCK_PLUGINS={provider.distribution}, or prefer it "
            "with Quantizer(plugins=[...])"
        )


def _clashes(record: ComponentSpec, registry: Registry[Any]) -> Iterator[str]:
    for taken in registry:
        shared = _claims(record) & _claims(taken.spec) if taken.provider.is_builtin else ()
        for claim in sorted(shared):
            yield f"{registry.kind} {record.name!r}: the {claim} is also claimed by {taken.provider}"


def _claims(record: ComponentSpec) -> set[str]:
    suffixes = record.suffixes if isinstance(record, FormatSpec) else ()
    names = (record.name, *record.aliases)
    return {f"name {name!r}" for name in names} | {f"suffix {suffix!r}" for suffix in suffixes}
