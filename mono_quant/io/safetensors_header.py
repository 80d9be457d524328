"""The header of a safetensors file, checked before the library reads it.

The library checks offsets and sizes. It takes the last of two tensors of one name, ignores keys that it does not know,
and spends memory on any number of tensors. Here the header is read piece by piece, so that little is kept of what is
refused.
(Format: https://huggingface.co/docs/safetensors#format.)
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from mono_quant._json import json_values
from mono_quant.errors import ArtifactError
from mono_quant.io.limits import MOST_DIMENSIONS, MOST_TENSORS, largest_text, opened

__all__ = ["read_header"]

_LENGTH_BYTES = 8
_METADATA = "__metadata__"
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}
_LARGEST = 2**59
"""Elements, of up to 16 bytes, that can be counted in 64 bits; an empty tensor too has strides to be counted."""

_SPACE = rb"[ \t\n\r]*"
# Possessive (++, *+), so that a long text is matched without memory for going back.
_TEXT = rb'"(?:[^"\\]++|\\.)*+"'
_OPEN = re.compile(_SPACE + rb"\{" + _SPACE)
_NAME = re.compile(rb"(%s)%s:%s" % (_TEXT, _SPACE, _SPACE))
_VALUE = re.compile(_TEXT)
_ENTRY = re.compile(rb'\{(?:[^{}"]|"[^"\\{}]{0,32}"){0,2048}\}')
_NEXT = re.compile(_SPACE + rb"([,}])" + _SPACE)


def read_header(path: Path, key: str) -> tuple[str | None, int]:
    """What ``__metadata__`` holds under a key, None when nothing, and the size of the file.

    The header must be one that can be read in one way only.

    Raises:
        ArtifactError: when the header is not as the format says, or says something twice.
        OSError: when the file cannot be read.
    """
    with opened(path) as (file, size):
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > size - _LENGTH_BYTES:
            raise ArtifactError("it is cut off, or not safetensors: it is shorter than its header says")
        if length > largest_text(size):
            raise ArtifactError(
                f"its header has {length:,} bytes; {largest_text(size):,} are the most in a file of {size:,}"
            )
        header = _Header(file.read(length))
    try:
        return header.check(key), size
    except ValueError as error:
        raise ArtifactError(f"its header is damaged: {error}") from error


class _Header:
    """A text and a place in it."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def check(self, wanted: str) -> str | None:
        """Read to the end; what the metadata holds under ``wanted``."""
        found = None
        for name in self._members():
            if name != _METADATA:
                _check_entry(name, self._take(_ENTRY)[0])
                continue
            for key in self._members():
                value = self._take(_VALUE)
                found = json.loads(value[0]) if key == wanted else found
        if self._at != len(self._text):
            raise ValueError("it goes on behind its end")
        return found

    def _members(self) -> Iterator[str]:
        """The names in an object, each once; the caller reads the value that follows."""
        names: set[str] = set()
        self._take(_OPEN)
        if self._text[self._at : self._at + 1] == b"}":
            self._take(_NEXT)
            return
        more = True
        while more:
            name: str = json.loads(self._take(_NAME)[1])
            if name in names:
                raise ValueError(f"{name!r} is there twice")
            if len(names) == MOST_TENSORS:
                raise ValueError(f"it has more than {MOST_TENSORS:,} names")
            names.add(name)
            yield name
            more = self._take(_NEXT)[1] == b","

    def _take(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"at byte {self._at} it is not as the format says")
        self._at = match.end()
        return match


def _check_entry(name: str, text: bytes) -> None:
    """Refuse what the library lets pass, or torch cannot take. Offsets and sizes are the library's business."""
    entry = json_values(text)
    if set(entry) != _ENTRY_KEYS:
        raise ValueError(f"tensor {name!r} has the keys {sorted(entry)}, not {sorted(_ENTRY_KEYS)}")
    shape = entry["shape"]
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or not all(type(size) is int for size in shape):
        raise ValueError(f"the shape of tensor {name!r} is no list of at most {MOST_DIMENSIONS} whole numbers")
    if math.prod(max(1, abs(size)) for size in shape) > _LARGEST:
        raise ValueError(f"tensor {name!r} claims the shape {shape}")
