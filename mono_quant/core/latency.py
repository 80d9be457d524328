"""How long two models take, measured in turn, so that a change of the machine's speed meets both alike."""

import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

__all__ = ["alternate"]


T = TypeVar("T")

_MOST_TURNS = 7
_TIMED_A_TURN = 3


def alternate(
    first: Callable[[T], object], second: Callable[[T], object], argument: Callable[[], T], *, budget_s: float = 1.0
) -> tuple[float, float]:
    """Median milliseconds of two calls that take turns: at least one turn each, at most 7 or until the budget is spent.

    A turn is four calls. The first of them is not timed: it finds the other's weights in the caches, where a model
    that is in use finds its own.

    Args:
        first: timed.
        second: timed.
        argument: makes a new argument for each call, outside the time.
        budget_s: seconds.
    """
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + budget_s
    while not times[0] or (len(times[0]) < _MOST_TURNS * _TIMED_A_TURN and time.perf_counter() < end):
        for call, spent in zip((first, second), times, strict=True):
            call(argument())
            spent.extend(_milliseconds(call, argument()) for _ in range(_TIMED_A_TURN))
    return median(times[0]), median(times[1])


def _milliseconds(call: Callable[[T], object], argument: T) -> float:
    start = time.perf_counter()
    call(argument)
    return (time.perf_counter() - start) * 1e3
