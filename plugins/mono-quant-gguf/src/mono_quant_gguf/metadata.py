"""Keys that users add to a file, each with a type of GGUF."""

import math
from collections.abc import Mapping
from typing import Any

from gguf import GGUFWriter
from mono_quant.errors import ConfigurationError

__all__ = ["ARCHITECTURE", "add_metadata", "checked"]

ARCHITECTURE = "general.architecture"
_OURS = ("mono_quant.", "general.alignment", "general.quantization_version")
_UINT32, _INT32 = 2**32, 2**31
_LARGEST_FLOAT = float(2**128 - 2**104)


def checked(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The keys and values that a user gave.

    Raises:
        ConfigurationError: when one of them has no place in a file.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ConfigurationError(f"metadata must be a mapping of keys to values, got {metadata!r}")
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not _is_text(key) or key.startswith(_OURS):
            raise ConfigurationError(f"metadata has the key {key!r}: keys are texts, but for those written anyway")
        values = value if isinstance(value, list) else [value]
        bits = 32 if isinstance(value, list) else 64
        if not values or len({type(one) for one in values}) > 1 or not all(_has_place(one, bits) for one in values):
            raise ConfigurationError(
                f"metadata {key!r} is {value!r}: give text, a boolean, a whole number of 64 bits, any other that is in "
                "the range of float32, or a list, whose whole numbers have 32 bits"
            )
    if not isinstance((metadata or {}).get(ARCHITECTURE, ""), str):
        raise ConfigurationError(f"metadata {ARCHITECTURE!r} must be text")
    return dict(metadata or {})


def _has_place(value: object, bits: int) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return not math.isfinite(value) or abs(value) <= _LARGEST_FLOAT
    return isinstance(value, int) and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)


def _is_text(value: str) -> bool:
    """Whether it is text that can be written; the writer leaves out what is empty."""
    try:
        return bool(value.encode())
    except UnicodeEncodeError:
        return False


def add_metadata(writer: GGUFWriter, metadata: Mapping[str, Any]) -> None:
    """Write them: whole numbers as uint32, or int32 below zero, as llama.cpp reads them; floats as float32."""
    for key, value in metadata.items():
        if key == ARCHITECTURE:
            continue  # the writer has been given it
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            _add_integer(writer, key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_string(key, value)


def _add_integer(writer: GGUFWriter, key: str, value: int) -> None:
    if 0 <= value < _UINT32:
        writer.add_uint32(key, value)
    elif -_INT32 <= value < 0:
        writer.add_int32(key, value)
    else:
        writer.add_int64(key, value)
