"""The part of pickle that files of tensors are written in, read without importing or calling anything.

Protocol 2 only, which is what ``torch.save`` writes. See the standard library's ``pickletools`` for the opcodes.
"""

import pickle
import struct
from collections.abc import Callable
from typing import Any

import attrs

from mono_quant.errors import ArtifactError
from mono_quant.io.pickle_machine import Source, Stack

__all__ = ["Global", "PickleReader"]

_SHORT, _INT, _LENGTH, _FLOAT = map(struct.Struct, ("<H", "<i", "<I", ">d"))


@attrs.frozen
class Global:
    """A function or class that a pickle names, as two texts."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class PickleReader:
    """Reads pickles that follow each other.

    Args:
        data: their bytes.
        steps: how many opcodes to read at most.
        call: what a call of a function with arguments gives.
        refer: what stands for something outside of the pickle, by its id.
    """

    def __init__(
        self, data: bytes, *, steps: int, call: Callable[[Any, Any], object], refer: Callable[[Any], object]
    ) -> None:
        self.source = Source(data)
        self._steps = steps
        self._call = call
        self._refer = refer

    def read(self) -> Any:  # noqa: ANN401 - whatever is pickled
        """What the next pickle holds.

        Raises:
            ArtifactError: when it is damaged, or not of the part of pickle that is read here.
        """
        source, stack = self.source, Stack()
        while (code := source.take(1)) != pickle.STOP:
            self._steps -= 1
            if self._steps < 0:
                raise ArtifactError("it holds more values than a file of its size may")
            if code == pickle.REDUCE:
                stack.push(self._call(*stack.pop(2)))
            elif code == pickle.BINPERSID:
                stack.push(self._refer(*stack.pop(1)))
            elif code in _STEPS:
                _STEPS[code](source, stack)
            else:
                raise ArtifactError(f"it holds the pickle opcode {code!r}, which torch.save does not write")
        return stack.pop(1)[0]


def _protocol(source: Source, _: Stack) -> None:
    if source.take(1) != b"\2":
        raise ArtifactError("it is not of pickle protocol 2, which torch.save writes")


_STEPS: dict[bytes, Callable[[Source, Stack], None]] = {
    pickle.PROTO: _protocol,
    pickle.NONE: lambda _, stack: stack.push(None),
    pickle.NEWTRUE: lambda _, stack: stack.push(True),  # noqa: FBT003 - the value itself
    pickle.NEWFALSE: lambda _, stack: stack.push(False),  # noqa: FBT003
    pickle.BININT: lambda source, stack: stack.push(source.number(_INT)),
    pickle.BININT1: lambda source, stack: stack.push(source.byte()),
    pickle.BININT2: lambda source, stack: stack.push(source.number(_SHORT)),
    pickle.LONG1: lambda source, stack: stack.push(int.from_bytes(source.take(source.byte()), "little", signed=True)),
    pickle.BINFLOAT: lambda source, stack: stack.push(source.number(_FLOAT)),
    pickle.BINUNICODE: lambda source, stack: stack.push(source.take(source.number(_LENGTH)).decode()),
    pickle.GLOBAL: lambda source, stack: stack.push(Global(source.line(), source.line())),
    pickle.EMPTY_DICT: lambda _, stack: stack.push({}),
    pickle.EMPTY_LIST: lambda _, stack: stack.push([]),
    pickle.EMPTY_TUPLE: lambda _, stack: stack.push(()),
    pickle.MARK: lambda _, stack: stack.mark(),
    pickle.TUPLE: lambda _, stack: stack.push(tuple(stack.since_mark())),
    pickle.TUPLE1: lambda _, stack: stack.push(tuple(stack.pop(1))),
    pickle.TUPLE2: lambda _, stack: stack.push(tuple(stack.pop(2))),
    pickle.TUPLE3: lambda _, stack: stack.push(tuple(stack.pop(3))),
    pickle.APPEND: lambda _, stack: stack.append(stack.pop(1)),
    pickle.APPENDS: lambda _, stack: stack.append(stack.since_mark()),
    pickle.SETITEM: lambda _, stack: stack.set_items(stack.pop(2)),
    pickle.SETITEMS: lambda _, stack: stack.set_items(stack.since_mark()),
    pickle.BUILD: lambda _, stack: stack.build(),
    pickle.BINPUT: lambda source, stack: stack.put(source.byte()),
    pickle.LONG_BINPUT: lambda source, stack: stack.put(source.number(_LENGTH)),
    pickle.BINGET: lambda source, stack: stack.get(source.byte()),
    pickle.LONG_BINGET: lambda source, stack: stack.get(source.number(_LENGTH)),
}
"""Opcode → what it does, all but the two that ask from outside."""
