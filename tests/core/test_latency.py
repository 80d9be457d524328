"""Two models timed in turn."""

import time
from collections.abc import Callable

import pytest

from mono_quant.core.latency import take_turns


def slow_at(calls: set[int]) -> Callable[[int], None]:
    """A function that takes 20 ms in these calls, counted from 0, and no time in others."""
    count = iter(range(1000))
    return lambda _: time.sleep(0.02) if next(count) in calls else None


@pytest.mark.parametrize("budget_s", [0, 0.05])
@pytest.mark.parametrize("calls", [{0}, {1}, {2}], ids=["first", "second", "third"])
def test_a_cost_that_comes_once_is_in_neither_median(calls: set[int], budget_s: float):
    times = take_turns([slow_at(calls), slow_at(calls)], lambda: 0, budget_s=budget_s)
    assert max(times) < 10


def test_what_every_call_costs_is_in_the_median():
    first, second = take_turns([slow_at(set()), slow_at(set(range(1000)))], lambda: 0, budget_s=0)
    assert first < 10
    assert second >= 20


def test_arguments_are_made_outside_of_the_time():
    assert max(take_turns([lambda _: None, lambda _: None], lambda: time.sleep(0.02), budget_s=0)) < 10


def test_a_spent_budget_allows_one_turn_of_four_calls():
    calls: list[str] = []
    take_turns([lambda _: calls.append("first"), lambda _: calls.append("second")], lambda: 0, budget_s=0)
    assert calls == ["first"] * 4 + ["second"] * 4
