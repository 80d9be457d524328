"""JSON that every reader reads the same way: no key twice, no NaN, no depth or number of values that costs memory."""

import json
import math
from collections import Counter
from typing import Any

from mono_quant.errors import ArtifactError
from mono_quant.io.limits import most_values
from mono_quant.plugin_api.artifact import JSON

__all__ = ["dump_object", "parse_object", "unique_keys"]

_DEEPEST = 64


def parse_object(text: str, size: int, what: str = "its manifest") -> dict[str, JSON]:
    """The JSON object in a text.

    Args:
        text: any text.
        size: bytes of the file that it stands in.
        what: the text, in messages.

    Raises:
        ArtifactError: when it is none, or has a key twice, a number that is not finite, or too many or too deep values.
    """
    # A comma or bracket inside of a string counts as well: the bound is generous enough.
    if sum(map(text.count, ",[{")) > most_values(size):
        raise ArtifactError(f"{what} is not taken: it has more than {most_values(size):,} values")
    try:
        data: JSON = json.loads(text, object_pairs_hook=unique_keys, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ArtifactError(f"{what} is not a JSON object: it is a {type(data).__name__}")
    _refuse_depth(data, what)
    return data


def dump_object(data: dict[str, JSON]) -> str:
    """The text of a JSON object, keys in order.

    Raises:
        ArtifactError: when `parse_object` would refuse it.
    """
    try:
        text = json.dumps(data, sort_keys=True, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"its manifest is not JSON: {error}") from error
    _refuse_depth(data, "its manifest")
    return text


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The dictionary of some pairs, for ``json.loads``.

    Raises:
        ValueError: when a key occurs twice.
    """
    data = dict(pairs)
    if len(data) != len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return data


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _refuse_depth(data: JSON, what: str) -> None:
    """Refuse what later code could not walk through recursively."""
    level: list[JSON] = [data]
    for _ in range(_DEEPEST):
        nested = [value for value in level if isinstance(value, dict | list)]
        level = [inner for value in nested for inner in (value.values() if isinstance(value, dict) else value)]
        if not level:
            return
    raise ArtifactError(f"{what} is not taken: its values are nested more than {_DEEPEST} deep")
