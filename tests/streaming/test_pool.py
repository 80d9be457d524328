"""Units of work by processes: a unit that cannot be sent is an error, and nobody waits for it for ever."""

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from mono_quant.io.checkpoint import TensorInfo
from mono_quant.io.checkpoint.place import Place
from mono_quant.streaming.piece import Piece, Unit
from mono_quant.streaming.pool import Done, _Process


class Unsendable(_Process):
    """As a worker whose units hold a class that pickle does not find."""

    def _send(self, message: bytes) -> None:
        del message
        raise AttributeError("cannot pickle a local class")


def test_a_unit_that_cannot_be_sent_is_answered_by_what_was_raised():
    place = Place(Path("weights"), 0, TensorInfo(torch.uint8, (4,)))
    unit = Unit(0, (Piece(name="x", source=place, rows=(0, 4), spec=None, targets={}),))
    todo: SimpleQueue[Unit] = SimpleQueue()
    todo.put(unit)
    done: SimpleQueue[Done] = SimpleQueue()
    no_process: Any = None
    Unsendable(no_process).serve(todo, done)
    answered, error = done.get_nowait()
    assert answered is unit
    assert isinstance(error, AttributeError)
