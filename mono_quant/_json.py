"""JSON that every reader reads the same way: no key twice, no number that is not finite."""

import json
import math
from collections import Counter
from typing import Any

import attrs

__all__ = ["as_json", "json_values"]


def json_values(text: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """The values that a text says.

    >>> json_values('{"k": [1, 2.5, null]}')
    {'k': [1, 2.5, None]}

    Raises:
        ValueError: when it is not JSON, gives a key twice, or has a number that is not finite.
        RecursionError: when its values are nested too deep.
    """
    return json.loads(text, object_pairs_hook=_unique_keys, parse_float=_finite, parse_constant=_finite)


def as_json(value: Any) -> Any:  # noqa: ANN401 - anything to JSON values
    """Records as objects, tuples as lists, numbers that JSON has not as text."""
    if attrs.has(type(value)):
        return {field.name: as_json(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, dict):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, whose grammar allows a key twice: all but the last value would be lost."""
    values = dict(pairs)
    if len(values) != len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return values


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number
