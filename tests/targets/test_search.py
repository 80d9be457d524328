"""The search over figures alone, against all choices there are, where noises add up exactly."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mono_quant.targets.search import Step, cheapest

FLOAT = "float"

ladders_of_one = st.lists(st.tuples(st.integers(1, 100), st.integers(1, 50)), min_size=1, max_size=7)


def ladder(name: str, *steps: tuple[str, float, int]) -> list[Step]:
    return [Step(layer=name, way=way, gain=gain, cost=cost) for way, gain, cost in steps]


class Noise:
    """All layers' noise, less what the steps of a choice save; it counts how often it is asked."""

    def __init__(self, ladders: list[list[Step]], allowed: float) -> None:
        self._ladders = ladders
        self._allowed = allowed
        self.asked = 0

    def left(self, changed: dict[str, str]) -> float:
        left = 0.0
        for steps in self._ladders:
            ways = [step.way for step in steps]
            done = ways.index(changed[steps[0].layer]) + 1 if steps[0].layer in changed else 0
            left += sum(step.gain for step in steps[done:])
        return left

    def is_met(self, changed: dict[str, str]) -> bool:
        self.asked += 1
        return self.left(changed) <= self._allowed


def cost(ladders: list[list[Step]], changed: dict[str, str]) -> int:
    total = 0
    for steps in ladders:
        for step in steps:
            if steps[0].layer in changed:
                total += step.cost
                if step.way == changed[steps[0].layer]:
                    break
    return total


@given(ladders_of_one, st.floats(0.01, 0.99))
def test_what_is_found_suffices_and_costs_at_most_one_step_more_than_the_best(
    given_steps: list[tuple[int, int]], part: float
):
    ladders = [ladder(str(i), (FLOAT, gain, bytes_)) for i, (gain, bytes_) in enumerate(given_steps)]
    noise = Noise(ladders, part * sum(gain for gain, _ in given_steps))
    found = cheapest(ladders, noise.is_met, 100)
    choices = [
        {str(i): FLOAT for i, is_float in enumerate(chosen) if is_float}
        for chosen in product([False, True], repeat=len(ladders))
    ]
    enough = [choice for choice in choices if len(choice) < len(ladders) and noise.left(choice) <= noise._allowed]
    if found is None:
        return  # the order of steps needs them all
    assert found in enough
    best = min(cost(ladders, choice) for choice in enough)
    assert cost(ladders, found) <= best + max(bytes_ for _, bytes_ in given_steps)


@given(ladders_of_one, st.floats(0.01, 0.99), st.integers(1, 6))
def test_no_more_is_measured_than_is_allowed(given_steps: list[tuple[int, int]], part: float, allowed: int):
    ladders = [ladder(str(i), (FLOAT, gain, bytes_)) for i, (gain, bytes_) in enumerate(given_steps)]
    noise = Noise(ladders, part * sum(gain for gain, _ in given_steps))
    found = cheapest(ladders, noise.is_met, allowed)
    assert noise.asked <= allowed
    assert found is None or noise.left(found) <= noise._allowed


def test_fifty_layers_take_at_most_24_measurements_and_no_step_could_be_left_out():
    ladders = [ladder(str(i), (FLOAT, 2.0 ** (i % 13), 10 + i * 7 % 31)) for i in range(50)]
    noise = Noise(ladders, 900.0)
    found = cheapest(ladders, noise.is_met, 24)
    assert found is not None
    assert noise.asked <= 24
    assert noise.left(found) <= 900.0


def test_a_way_that_costs_nothing_is_taken_before_float():
    ladders = [ladder(str(i), ("more-bits", 9.0, 0), (FLOAT, 1.0, 1000)) for i in range(4)]
    assert cheapest(ladders, Noise(ladders, 5.0).is_met, 30) == dict.fromkeys("0123", "more-bits")


def test_the_steps_of_a_layer_are_taken_in_their_order():
    ladders = [ladder("a", ("more-bits", 1.0, 100), (FLOAT, 50.0, 1)), ladder("b", (FLOAT, 1.0, 5))]
    noise = Noise(ladders, 1.0)
    assert cheapest(ladders, noise.is_met, 30) == {"a": FLOAT}


def test_what_turns_out_not_to_be_needed_is_taken_back():
    ladders = [ladder("small", (FLOAT, 3.0, 10)), ladder("large", (FLOAT, 10.0, 90)), ladder("rest", (FLOAT, 1.0, 99))]
    noise = Noise(ladders, 4.0)  # without the large one all is well; by worth the small one comes first
    assert cheapest(ladders, noise.is_met, 30) == {"large": FLOAT}


@pytest.mark.parametrize("ladders", [[], [[]]])
def test_without_any_step_nothing_is_found(ladders: list[list[Step]]):
    assert cheapest(ladders, bool, 5) is None


def test_where_few_steps_do_few_are_measured():
    asked: list[int] = []

    def is_met(choice: dict[str, str]) -> bool:
        asked.append(len(choice))
        return len(choice) in {3, 4} or len(choice) > 60  # as of a metric, which rises and falls again

    ladders = [[Step(layer=str(number), way="float", gain=1.0 / (1 + number), cost=1)] for number in range(100)]
    found = cheapest(ladders, is_met, 20, may_take_all=False)
    assert found is not None
    assert len(found) == 3
    assert max(asked) <= 4


@pytest.mark.parametrize(("count", "needed"), [(210, 150), (600, 400), (50, 49), (50, 1), (50, 26), (3, 2)])
@pytest.mark.parametrize("evaluations", [1, 2, 3, 5, 8, 10, 18, 25])
def test_no_more_is_taken_than_bisection_alone_finds_that_is_as_long(count: int, needed: int, evaluations: int):
    ladders = [[Step(layer=str(number), way="float", gain=1.0 / (1 + number), cost=1)] for number in range(count)]
    low, high = 0, count
    for _ in range(evaluations):
        middle = (low + high) // 2
        low, high = (low, middle) if middle >= needed else (middle, high)
        if high - low <= 1:
            break
    found = cheapest(ladders, lambda choice: len(choice) >= needed, evaluations)
    assert len(found or range(count)) <= high
