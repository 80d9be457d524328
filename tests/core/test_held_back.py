"""What is held back, of many and of one input."""

import torch

from mono_quant.core.held_back import is_held_back, parts


def test_it_is_one_of_each_four_and_the_second_of_the_first():
    held = [is_held_back(number) for number in range(400)]
    assert [sum(held[start : start + 4]) for start in range(0, 400, 4)] == [1] * 100
    assert held[:4] == [False, True, False, False]


def test_what_comes_in_turn_is_not_always_the_same():
    for turn in (2, 4, 6):
        counts = [sum(is_held_back(number) for number in range(use, 1200, turn)) for use in range(turn)]
        assert min(counts) > 0.6 * 300 / turn


def test_samples_are_counted_over_batches():
    x = torch.arange(10)
    whole = {int(one) for part, is_apart in parts(x) if is_apart for one in part}
    by_batch = {
        int(one)
        for seen in (0, 3, 6, 9)
        for part, is_apart in parts(x[seen : seen + 3], seen)
        if is_apart
        for one in part
    }
    assert whole == by_batch == {1, 5, 9}
