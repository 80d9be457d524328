"""How long models take, measured in turn, so that a change of the machine's speed meets all alike."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

__all__ = ["take_turns"]


T = TypeVar("T")

_MOST_TURNS = 7
_TIMED_A_TURN = 3


def take_turns(
    calls: Sequence[Callable[[T], object]], argument: Callable[[], T], *, budget_s: float, pause_s: float = 0.0
) -> list[float]:
    """Median milliseconds of calls that take turns: at least one turn each, at most 7 or until the budget is spent.

    A turn is four calls. The first of them is not timed: it finds the others' weights in the caches, where a model
    that is in use finds its own.

    Args:
        calls: timed.
        argument: makes a new argument for each call, outside the time.
        budget_s: seconds, for all.
        pause_s: seconds before each turn, for calls that have threads of their own: those of the call before may go on
            spinning for some milliseconds and take the cores from this one, which can double its time.
    """
    times: list[list[float]] = [[] for _ in calls]
    if not times:
        return []
    end = time.perf_counter() + budget_s
    while not times[0] or (len(times[0]) < _MOST_TURNS * _TIMED_A_TURN and time.perf_counter() < end):
        for call, spent in zip(calls, times, strict=True):
            time.sleep(pause_s)
            call(argument())
            spent.extend(_milliseconds(call, argument()) for _ in range(_TIMED_A_TURN))
    return [median(spent) for spent in times]


def _milliseconds(call: Callable[[T], object], argument: T) -> float:
    start = time.perf_counter()
    call(argument)
    return (time.perf_counter() - start) * 1e3
