"""Doing units of work in several processes."""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any

import attrs
import torch

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
    """Each unit when it is done, in any order. One of the workers is this process.

    They share the cores. Closing the iterator ends them; what they were doing is left in the middle.

    Raises:
        ArtifactError: when a unit fails, or a process ends by itself.
        ConfigurationError: when the format cannot be sent to a process.
        UnsupportedLayerError: when a weight is not finite.
    """
    workers = max(1, min(workers, len(units)))
    todo: SimpleQueue[Unit] = SimpleQueue()
    for unit in units:
        todo.put(unit)
    done: SimpleQueue[Done] = SimpleQueue()
    threads = max(1, usable_cores() // workers)
    processes: list[_Process] = []
    with _threads(threads if workers > 1 else torch.get_num_threads()):
        try:
            start = _start_messages(file_format, threads) if workers > 1 else b""
            for _ in range(workers - 1):
                processes.append(_Process.start(start))
                threading.Thread(target=processes[-1].serve, args=(todo, done), daemon=True).start()
            for _ in units:
                yield _next(todo, done, file_format)
        finally:
            for process in processes:
                process.end()


def _next(todo: "SimpleQueue[Unit]", done: SimpleQueue[Done], file_format: FolderFormat | None) -> Unit:
    """A unit that another process has done, or else one that is done here while there are any."""
    if done.empty() and (unit := _taken(todo)) is not None:
        do_unit(unit, file_format)
        return unit
    ready, error = done.get()
    if error is not None:
        raise error
    return ready


def _taken(todo: "SimpleQueue[Unit]") -> Unit | None:
    try:
        return todo.get_nowait()
    except Empty:
        return None


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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

    def serve(self, todo: "SimpleQueue[Unit]", done: SimpleQueue[Done]) -> None:
        """Let it do units until there are no more; run in a thread of its own."""
        while (unit := _taken(todo)) is not None:
            try:
                self._send(pickle.dumps(unit))
                error: Exception | None = pickle.load(self._answers)  # noqa: S301 - from our own process
            except (OSError, EOFError, ValueError, pickle.UnpicklingError):
                error = ArtifactError(
                    f"a worker process ended by itself ({_how(self.popen.wait())}) while it worked on {_what(unit)}; "
                    "what is done stays: run it again, with fewer workers if memory was short"
                )
            except Exception as raised:  # noqa: BLE001 - what a plugin's classes do when they are sent; it is reported
                error = raised
            done.put((unit, error))
            if error is not None:
                return

    def end(self) -> None:
        """Whatever it does; the thread that serves it then finds the pipes at their end, or closed."""
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            with suppress(OSError):  # what is left in a buffer has nowhere to go
                if pipe is not None:
                    pipe.close()

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
