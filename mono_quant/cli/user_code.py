"""Exceptions of the user's own code: shown with the user's part of the traceback and what was being done."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from mono_quant.calibration.data import iterate_batches
from mono_quant.errors import CalibrationError, MonoQuantError

__all__ = ["UserCodeError", "drawing", "running", "shown"]

_NOT_THE_USERS = {"mono_quant", "torch", "tqdm", *sys.stdlib_module_names}


class UserCodeError(Exception):
    """The model's or the data's own code raised the cause of this; the message says what was being done."""


@contextmanager
def running(what: str) -> Iterator[None]:
    """Around a call of the user's code; ``what`` is said of it when it raises.

    Raises:
        UserCodeError: from what the code raised, unless that is an error of ours.
    """
    try:
        yield
    except MonoQuantError:
        raise
    except Exception as error:  # the user's code can raise anything
        raise UserCodeError(f"{what} raised {type(error).__name__}: {error}") from error


@contextmanager
def drawing() -> Iterator[None]:
    """Around all that a command does: the data is iterated far inside, where nobody knows whose code it is.

    Raises:
        UserCodeError: from what came out of the data while batches were drawn from it.
    """
    try:
        yield
    except (MonoQuantError, UserCodeError):
        raise
    except Exception as error:
        if any(frame.f_code is iterate_batches.__code__ for frame, _ in traceback.walk_tb(error.__traceback__)):
            raise UserCodeError(f"drawing a batch of the data raised {type(error).__name__}: {error}") from error
        raise


def shown(error: Exception) -> str:
    """The user's frames of what an error was raised from, as in a traceback; empty when there are none."""
    cause = error.__cause__
    if cause is None or not isinstance(error, UserCodeError | CalibrationError):
        return ""
    frames = [at for at in traceback.walk_tb(cause.__traceback__) if _package(at[0].f_globals) not in _NOT_THE_USERS]
    lines = traceback.StackSummary.extract(iter(frames)).format()
    if isinstance(cause, SyntaxError):
        lines += traceback.format_exception_only(cause)[:-1]  # where it is; no frame shows that
    return "".join(["Traceback (your own code in it):\n", *lines]) if lines else ""


def _package(names: dict[str, object]) -> str:
    return str(names.get("__name__", "")).partition(".")[0]
