"""Writing TOML (https://toml.io/en/v1.0.0): the standard library reads it only.

A value that is a table stands in one line, ``"encoder.*" = { scheme = "int8-dynamic" }``, so that the keys of a table
are written in their order whatever their values are. Writers that give each table a header of its own must put the
other keys first, and in ``overrides`` the first match wins.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["toml_text"]

_LINE = 100


def toml_text(values: Mapping[str, Any]) -> str:
    """A document: text, numbers, truth values and lists first, then a section for each table.

    Args:
        values: text, bool, int, float, list and dict with keys of text, nested as they like.
    """
    return "".join(_lines(values))


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    sections = {key: value for key, value in values.items() if isinstance(value, dict) and value}
    for key, value in values.items():
        if key not in sections:
            yield f"{_key(key)} = {_wrapped(value)}\n"
    for key, table in sections.items():
        yield f"\n[{_key(key)}]\n"
        for name, value in table.items():
            yield f"{_key(name)} = {_wrapped(value)}\n"


def _wrapped(value: object) -> str:
    """A value; a list that makes too long a line gets one line for each item."""
    text = _value(value)
    if len(text) <= _LINE or not isinstance(value, list):
        return text
    return "[\n" + "".join(f"    {_value(item)},\n" for item in value) + "]"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)  # the shortest text that reads back as the same number; also inf, nan
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return _string(str(value))


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _string(text: str) -> str:
    """A basic string. The escapes of JSON are among those of TOML, which also wants DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
