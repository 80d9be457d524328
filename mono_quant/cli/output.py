"""Printing."""

import json
import math
import sys
from typing import Any

import attrs

__all__ = ["as_json", "say", "say_json"]


def say(text: object) -> None:
    """A line or several on standard output."""
    sys.stdout.write(f"{text}\n")


def say_json(value: object) -> None:
    """A value as JSON on standard output."""
    say(json.dumps(as_json(value), indent=2))


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
