"""What every observer promises; and the moments, against exact fractions."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mono_quant.core.granularity import PerChannel
from mono_quant.testing import ObserverSuite

from mono_quant_spread import SpreadObserver

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
ROUNDING = 1e-6
"""Of the largest magnitude: sums of squares are kept to some 1e-16 of theirs, and the root halves the digits."""


class TestSpread(ObserverSuite):
    rounding = ROUNDING

    def make(self, **common: object) -> SpreadObserver:
        return SpreadObserver(k=2, **common)


def by_definition(values: list[float], k: float) -> tuple[float, float]:
    """Mean and standard deviation in fractions."""
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    reach = k * math.sqrt(sum((value - mean) ** 2 for value in exact) / len(exact))
    low, high = (float(mean) + sign * reach for sign in (-1, 1))
    return max(low, min(values)), min(high, max(values))


def ends(observer: SpreadObserver) -> tuple[float, float]:
    return float(observer.min_val), float(observer.max_val)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(FINITE, min_size=1, max_size=20), min_size=1, max_size=6), st.sampled_from([0.5, 1, 3, 4]))
def test_the_range_is_that_of_the_definition(batches: list[list[float]], k: float):
    values = [value for batch in batches for value in batch]
    slack = ROUNDING * max(map(abs, values))
    one, first, second = (SpreadObserver(k=k) for _ in range(3))
    for number, batch in enumerate(batches):
        one.forward(torch.tensor(batch))
        (first, second)[number % 2].forward(torch.tensor(batch))
    first.merge(second)
    for observer in (one, first):
        assert ends(observer) == pytest.approx(by_definition(values, k), rel=0, abs=slack)


def test_an_outlier_hardly_widens_the_range():
    observer = SpreadObserver(k=4)
    observer.forward(torch.cat([torch.linspace(-1, 1, 9999), torch.tensor([100.0])]))
    assert 1 < ends(observer)[1] < 5


def test_each_channel_has_its_own_range():
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4) * torch.tensor([1.0, 10.0, 100.0])[:, None]
    observer = SpreadObserver(k=1, granularity=PerChannel(1))
    observer.forward(x)
    for channel in range(3):
        found = (float(observer.min_val[channel]), float(observer.max_val[channel]))
        assert found == pytest.approx(by_definition(x[:, channel].flatten().tolist(), 1))


@pytest.mark.parametrize("k", [0, -1, math.nan, math.inf])
def test_k_must_be_a_positive_number(k: float):
    with pytest.raises(ValueError, match="k must be above 0"):
        SpreadObserver(k=k)
