"""JSON in files from strangers: read strictly, and no depth or number of values that costs memory."""

import json

from mono_quant._json import json_values
from mono_quant.errors import ArtifactError
from mono_quant.io.limits import most_values
from mono_quant.plugin_api.artifact import JSON

__all__ = ["dump_object", "parse_object"]

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
        data: JSON = json_values(text)
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


def _refuse_depth(data: JSON, what: str) -> None:
    """Refuse what later code could not walk through recursively."""
    level: list[JSON] = [data]
    for _ in range(_DEEPEST):
        nested = [value for value in level if isinstance(value, dict | list)]
        level = [inner for value in nested for inner in (value.values() if isinstance(value, dict) else value)]
        if not level:
            return
    raise ArtifactError(f"{what} is not taken: its values are nested more than {_DEEPEST} deep")
