"""Two calls timed in turn, so that a change of the machine's speed meets both alike."""

import time
from collections.abc import Callable
from statistics import median, quantiles

import attrs

__all__ = ["Turns", "in_turn"]

_WARM_UP = 3
_FEWEST_ROUNDS = 3
_MOST_ROUNDS = 40
_FEWEST_CALLS = 3
_TURN_S = 0.05
_REST_S = 0.03
"""Longer than the threads of any of the libraries spin after their last work: they would take a core from the next."""


@attrs.frozen
class Turns:
    """Median milliseconds of a call, a number for each round.

    Args:
        first: of the one.
        second: of the other.
    """

    first: list[float]
    second: list[float]

    @property
    def ratios(self) -> tuple[float, float, float]:
        """How many times as fast the second is, round by round: lower quartile, median, upper quartile."""
        rounds = [one / other for one, other in zip(self.first, self.second, strict=True)]
        low, middle, high = quantiles(rounds, n=4, method="inclusive")
        return low, middle, high


def in_turn(first: Callable[[], object], second: Callable[[], object], *, budget_s: float) -> Turns:
    """Rounds of one turn each, until the budget is spent: three at least, 40 at most.

    A turn is a rest, a call that is not timed, since it finds the other's weights in the caches, and then calls for
    50 ms, three at least.
    """
    for call in (first, second):
        for _ in range(_WARM_UP):
            call()
    turns = Turns([], [])
    end = time.perf_counter() + budget_s
    while len(turns.first) < _FEWEST_ROUNDS or (len(turns.first) < _MOST_ROUNDS and time.perf_counter() < end):
        turns.first.append(_turn(first))
        turns.second.append(_turn(second))
    return turns


def _turn(call: Callable[[], object]) -> float:
    time.sleep(_REST_S)
    call()
    spent: list[float] = []
    end = time.perf_counter() + _TURN_S
    while len(spent) < _FEWEST_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return median(spent) * 1e3
