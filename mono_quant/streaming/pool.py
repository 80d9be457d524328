"""Doing units of work in several processes."""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import attrs

from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.plugin_api import FolderFormat
from mono_quant.streaming.doing import do_unit
from mono_quant.streaming.piece import Unit
from mono_quant.streaming.worker import START

__all__ = ["do_units", "usable_cores"]

Done = tuple[Unit, Exception | None]


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def do_units(units: Sequence[Unit], file_format: FolderFormat | None, workers: int) -> Generator[Unit]:
    """Each unit when it is done, in any order. One worker is this process.

    Processes share the cores. Closing the iterator ends them; what they were doing is left in the middle.

    Raises:
        ArtifactError: when a unit fails, or a process ends by itself.
        ConfigurationError: when the format cannot be sent to a process.
        UnsupportedLayerError: when a weight is not finite.
    """
    workers = min(workers, len(units))
    if workers <= 1:
        for unit in units:
            do_unit(unit, file_format)
            yield unit
        return
    todo: SimpleQueue[Unit | None] = SimpleQueue()
    for one in (*units, *[None] * workers):
        todo.put(one)
    done: SimpleQueue[Done] = SimpleQueue()
    start = _start_messages(file_format, max(1, usable_cores() // workers))
    processes: list[_Process] = []
    try:
        for _ in range(workers):
            processes.append(_Process.start(start))
            threading.Thread(target=processes[-1].serve, args=(todo, done), daemon=True).start()
        for _ in units:
            unit, error = done.get()
            if error is not None:
                raise error
            yield unit
    finally:
        for process in processes:
            process.end()


def _start_messages(file_format: FolderFormat | None, threads: int) -> bytes:
    try:
        content = pickle.dumps((threads, file_format))
    except Exception as error:  # a third party's class can raise anything
        raise _unsendable(file_format, str(error)) from error
    if type(file_format).__module__ == "__main__":
        raise _unsendable(file_format, "it is defined in the script that runs")
    return pickle.dumps(sys.path) + content


def _unsendable(file_format: FolderFormat | None, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"format {type(file_format).__name__} cannot be sent to worker processes ({why}): use workers=1"
    )


@attrs.frozen(eq=False)
class _Process:
    """A worker, seen from here."""

    popen: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, messages: bytes) -> "_Process":
        popen = subprocess.Popen([sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        process = cls(popen)
        with suppress(OSError):  # it has ended already, as reading will show
            process._send(messages)
        return process

    def serve(self, todo: "SimpleQueue[Unit | None]", done: SimpleQueue[Done]) -> None:
        """Let it do units until there are no more; run in a thread of its own."""
        while (unit := todo.get()) is not None:
            try:
                self._send(pickle.dumps(unit))
                error: Exception | None = pickle.load(self._answers)  # noqa: S301 - from our own process
            except (OSError, EOFError, pickle.UnpicklingError):
                error = ArtifactError(
                    f"a worker process ended by itself ({_how(self.popen.wait())}) while it worked on {_what(unit)}; "
                    "what is done stays: run it again, with fewer workers if memory was short"
                )
            done.put((unit, error))
            if error is not None:
                return

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()

    @property
    def _answers(self) -> Any:  # noqa: ANN401 - the pipe, which is there
        return self.popen.stdout

    def _send(self, message: bytes) -> None:
        pipe: Any = self.popen.stdin
        pipe.write(message)
        pipe.flush()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _what(unit: Unit) -> str:
    names = list(dict.fromkeys(piece.name for piece in unit.pieces))
    file = unit.pieces[0].source.path
    return f"{file}, tensor {names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
