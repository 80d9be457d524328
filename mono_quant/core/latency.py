"""How long two models take, measured in turn, so that a change of the machine's speed meets both alike."""

import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

__all__ = ["alternate"]


T = TypeVar("T")


def alternate(
    first: Callable[[T], object], second: Callable[[T], object], argument: Callable[[], T], *, budget_s: float = 1.0
) -> tuple[float, float]:
    """Median milliseconds of two calls, run in turn: at least 3 times each, at most 20 times or the budget.

    Args:
        first: timed.
        second: timed.
        argument: makes a new argument for each call, outside the time.
        budget_s: seconds.
    """
    first(argument()), second(argument())
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + budget_s
    while len(times[0]) < 3 or (len(times[0]) < 20 and time.perf_counter() < end):  # noqa: PLR2004 - as said above
        for call, spent in zip((first, second), times, strict=True):
            value = argument()
            start = time.perf_counter()
            call(value)
            spent.append((time.perf_counter() - start) * 1e3)
    return median(times[0]), median(times[1])
