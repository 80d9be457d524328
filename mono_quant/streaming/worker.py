"""A process that does units of work, as they come by its standard input; `mono_quant.streaming.pool` starts it.

Not by `multiprocessing`, which imports the user's main module anew: a script without a guard would run twice.
"""

import os
import pickle
import signal
import sys
import threading
import traceback
from queue import SimpleQueue
from typing import BinaryIO

import torch

from mono_quant.errors import MonoQuantError
from mono_quant.streaming.doing import do_unit
from mono_quant.streaming.piece import Unit

__all__ = ["START", "main"]

START = (
    "import sys, pickle; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from mono_quant.streaming.worker import main; main()"
)
"""What Python is started with."""


def main() -> None:
    """Answer each unit by None, or by what was raised, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it comes to the whole group; the parent ends us
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what plugins print is no answer
    units: SimpleQueue[Unit] = SimpleQueue()
    try:
        threads, file_format = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
        torch.set_num_threads(threads)
    except Exception as error:  # noqa: BLE001 - a format that cannot be imported here
        _answer(answers, error)
        return
    threading.Thread(target=_listen, args=[units], daemon=True).start()
    while True:
        unit = units.get()
        try:
            do_unit(unit, file_format)
        except Exception as error:  # noqa: BLE001 - it is raised on the other side
            _answer(answers, error)
        else:
            _answer(answers, None)


def _listen(units: SimpleQueue[Unit]) -> None:
    """Also while a unit is done: a parent that was killed leaves nobody behind that writes."""
    try:
        while True:
            units.put(pickle.load(sys.stdin.buffer))  # noqa: S301
    finally:
        os._exit(0)


def _answer(answers: BinaryIO, error: Exception | None) -> None:
    if error is not None and not isinstance(error, MonoQuantError):
        error.add_note(f"in a worker process:\n{''.join(traceback.format_exception(error))}")
    try:
        content = pickle.dumps(error)
        pickle.loads(content)  # noqa: S301 - some can be written and not read
    except Exception:  # noqa: BLE001
        content = pickle.dumps(RuntimeError("".join(traceback.format_exception(error))))
    answers.write(content)
    answers.flush()
