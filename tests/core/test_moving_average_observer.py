import math

import pytest
import torch
from float32_values import values
from hypothesis import given
from hypothesis import strategies as st
from observing import ends_of, seen

from mono_quant.core.granularity import PerChannel
from mono_quant.core.observers import MovingAverageObserver


def slow(batches: list[list[float]], constant: float) -> tuple[float, float]:
    """The definition, one batch after another."""
    low, high = min(batches[0]), max(batches[0])
    for batch in batches[1:]:
        low += constant * (min(batch) - low)
        high += constant * (max(batch) - high)
    return low, high


@given(drawn=st.lists(values(), min_size=1, max_size=8), constant=st.sampled_from([0.01, 0.3, 0.5, 0.9, 1.0]))
def test_the_range_is_the_average_of_the_ends(drawn: list[list[float]], constant: float):
    found = ends_of(seen(MovingAverageObserver(constant=constant), *map(torch.tensor, drawn)))
    largest = max(abs(x) for batch in drawn for x in batch)
    for end, expected in zip(found, slow(drawn, constant), strict=True):
        assert end[0] == pytest.approx(expected, rel=0, abs=1e-14 * largest)


def test_the_constant_is_a_hundredth():
    assert MovingAverageObserver().constant == 0.01
    assert ends_of(seen(MovingAverageObserver(), torch.tensor([-1.0, 1.0]), torch.tensor([-3.0, 2.0]))) == (
        [pytest.approx(-1.02)],
        [pytest.approx(1.01)],
    )


def test_one_outlier_among_many_batches_hardly_widens_it():
    batches = [torch.linspace(-1, 1, 11)] * 50
    observer = seen(MovingAverageObserver(), *batches, torch.tensor([100.0]), *batches)
    assert 1 < float(observer.max_val) < 1.7


def test_the_same_ends_in_each_batch_stay_what_they_are():
    x = torch.tensor([[0.1, -3e38], [0.7, 3e38]])
    observer = seen(MovingAverageObserver(granularity=PerChannel(1)), *[x] * 20)
    assert ends_of(observer) == (x[0].tolist(), x[1].tolist())


def test_two_of_them_do_not_merge():
    assert not MovingAverageObserver.mergeable
    one, other = (seen(MovingAverageObserver(), torch.ones(2)) for _ in range(2))
    with pytest.raises(TypeError, match="MovingAverageObserver cannot be merged"):
        one.merge(other)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows_for_good(bad: float):
    observer = seen(MovingAverageObserver(), torch.ones(2), torch.tensor([bad, 0.0]), *[torch.ones(2)] * 5)
    assert not torch.isfinite(torch.stack(observer.range())).all()


@pytest.mark.parametrize("constant", [0, -0.1, 1.1, math.nan, math.inf])
def test_the_constant_must_be_a_part(constant: float):
    with pytest.raises(ValueError, match="constant must be above 0 and at most 1"):
        MovingAverageObserver(constant=constant)
