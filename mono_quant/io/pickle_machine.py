"""The two parts of what reads a pickle: where its bytes come from, and where its values go."""

import struct
from typing import Any

from mono_quant.errors import ArtifactError

__all__ = ["Ordered", "Source", "Stack"]


class Ordered(dict[str, Any]):
    """Stands for an ``OrderedDict``, to which a pickle may give attributes."""

    is_sealed = False
    """Whether it must stay as it is: a pickle can go back to a value that it has used already."""


class Source:
    """Bytes, and a place in them that moves on.

    Each method raises ArtifactError when there are not enough of them.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        """The next bytes."""
        taken = self.data[self.at : self.at + length]
        self.at += length
        if len(taken) < length:
            raise ArtifactError("its pickle ends in the middle")
        return taken

    def byte(self) -> int:
        """The next number of one byte."""
        return self.take(1)[0]

    def number(self, layout: struct.Struct) -> Any:  # noqa: ANN401 - int or float
        """The next number of several bytes."""
        return layout.unpack(self.take(layout.size))[0]

    def line(self) -> str:
        """The text up to the end of the line."""
        end = self.data.find(b"\n", self.at)
        text = self.take(end - self.at if end >= 0 else len(self.data)).decode("ascii")
        self.take(1)
        return text


class Stack:
    """The values that are made, the marks between them, and those that can be referred to again.

    Each method raises ArtifactError when there is no such value.
    """

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def push(self, value: object) -> None:
        """Add a value."""
        self._values.append(value)

    def pop(self, count: int) -> list[Any]:
        """Remove the last values."""
        if len(self._values) - self._start < count:
            raise ArtifactError("its pickle takes more values than it has")
        taken = self._values[-count:]
        del self._values[-count:]
        return taken

    def mark(self) -> None:
        """Remember how many values there are."""
        self._marks.append(len(self._values))

    def since_mark(self) -> list[Any]:
        """Remove the last mark and the values after it."""
        if not self._marks:
            raise ArtifactError("its pickle takes more values than it has")
        start = self._marks.pop()
        taken = self._values[start:]
        del self._values[start:]
        return taken

    def put(self, index: int) -> None:
        """Remember the last value."""
        self._memo[index] = self._last(object)

    def get(self, index: int) -> None:
        """Add a value that is remembered."""
        if index not in self._memo:
            raise ArtifactError("its pickle refers to a value that it has not")
        self._values.append(self._memo[index])

    def append(self, values: list[Any]) -> None:
        """Add to the list that is the last value."""
        self._last(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Add keys and values to the dictionary that is the last value; each key must be a text, and new."""
        target = self._last(dict)
        if len(values) % 2:
            raise ArtifactError("its pickle has a key without a value")
        if isinstance(target, Ordered) and target.is_sealed:
            raise ArtifactError("it gives a tensor hooks")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str):
                raise ArtifactError(f"it has a name of type {type(key).__name__}; names are text")
            if key in target:
                raise ArtifactError(f"it has {key!r} twice")
            target[key] = value

    def build(self) -> None:
        """Take attributes for the last value: the ``_metadata`` of a ``state_dict``, which is not used; no other."""
        (attributes,) = self.pop(1)
        if not isinstance(attributes, dict) or set(attributes) - {"_metadata"}:
            raise ArtifactError("it sets attributes of an object")
        self._last(Ordered)

    def _last(self, kind: type) -> Any:  # noqa: ANN401 - a `kind`
        if len(self._values) <= self._start:
            raise ArtifactError("its pickle takes more values than it has")
        if not isinstance(self._values[-1], kind):
            raise ArtifactError(f"its pickle changes a {type(self._values[-1]).__name__}")
        return self._values[-1]

    @property
    def _start(self) -> int:
        """How many values lie before the last mark, where none may be taken."""
        return self._marks[-1] if self._marks else 0
