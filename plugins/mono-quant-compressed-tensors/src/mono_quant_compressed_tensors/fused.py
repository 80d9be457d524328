"""Layers that readers join into one: they must be quantized alike, or none of them."""

from collections.abc import Collection, Iterator, Mapping

__all__ = ["FUSED", "torn_sets"]

FUSED = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("gate_proj", "up_proj"),
    ("w1", "w3"),
)
"""Names of layers beside each other, in vLLM's own models: the last or only part of a qualified name."""

_OPTIONAL = ("q_proj", "query", "up_proj", "w1", "w3")
"""There are models with one of these and without its partners; of the others there are none."""


def torn_sets(schemes: Mapping[str, object], floats: Collection[str] = ()) -> dict[str, str]:
    """Layers that are not quantized as those that they are joined with: name → why, and what to do.

    Args:
        schemes: name of each quantized layer → how it is; equal for layers that are quantized alike.
        floats: names of layers that stay in float, as far as they are known.
    """
    return dict(_torn(schemes, floats))


def _torn(schemes: Mapping[str, object], floats: Collection[str]) -> Iterator[tuple[str, str]]:
    for name in schemes:
        parent, dot, last = name.rpartition(".")
        for parts in (parts for parts in FUSED if last in parts):
            names = {part: parent + dot + part for part in parts}
            there = {part: schemes[full] for part, full in names.items() if full in schemes}
            missing = [part for part in parts if part not in there]
            is_alone = last in _OPTIONAL and len(there) == 1 and not any(names[part] in floats for part in missing)
            if missing and not is_alone:
                yield name, _why(parts, f"{' and '.join(missing)} not quantized")
            elif any(scheme != there[last] for scheme in there.values()):
                yield name, _why(parts, "they are quantized in different ways")


def _why(parts: tuple[str, ...], what: str) -> str:
    return (
        f"readers join {', '.join(parts)} into one layer, and here {what}: give all of them one scheme, or keep all in "
        "float"
    )
