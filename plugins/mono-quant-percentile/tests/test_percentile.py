"""What every observer promises; and the percentiles, against sorting."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mono_quant.core.granularity import PerChannel
from mono_quant.testing import ObserverSuite

from mono_quant_percentile import PercentileObserver

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
NARROWED = 2**-7
"""The bits of float32 that are counted: sign, exponent, and 7 of the fraction; the rest is cut off."""


class TestPercentile(ObserverSuite):
    exceeds_data = True  # towards zero, by the bits that are cut off
    rounding = NARROWED

    def make(self, **common: object) -> PercentileObserver:
        return PercentileObserver(percentile=99, **common)


def cut(value: float) -> float:
    """Float32 with the last 16 bits cut off, the slow way."""
    if value == 0:
        return 0.0
    step = Fraction(2) ** max(math.frexp(value)[1] - 8, -133)
    return float(math.trunc(Fraction(value) / step) * step)


def by_sorting(values: list[float], percentile: float) -> tuple[float, float]:
    """The definition: of n values in order, number ``ceil(n p / 100)``, and the one as far from the other end."""
    ordered = sorted(values)
    inside = math.ceil(len(values) * (percentile / 100))
    return cut(ordered[len(values) - inside]), cut(ordered[inside - 1])


def ends(observer: PercentileObserver) -> tuple[float, float]:
    return float(observer.min_val), float(observer.max_val)


@settings(deadline=None, max_examples=100)
@given(st.lists(FINITE, min_size=1, max_size=60), st.sampled_from([50.5, 75, 90, 99, 99.9, 100]))
def test_the_range_is_that_of_the_definition(values: list[float], percentile: float):
    observer = PercentileObserver(percentile=percentile)
    observer.forward(torch.tensor(values))
    assert ends(observer) == by_sorting(values, percentile)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(FINITE, min_size=1, max_size=10), min_size=1, max_size=6))
def test_batches_one_after_another_give_what_all_at_once_gives(batches: list[list[float]]):
    observer = PercentileObserver(percentile=75)
    for batch in batches:
        observer.forward(torch.tensor(batch))
    assert ends(observer) == by_sorting([value for batch in batches for value in batch], 75)


def test_an_outlier_does_not_widen_the_range():
    observer = PercentileObserver(percentile=99)
    observer.forward(torch.cat([torch.linspace(-1, 1, 999), torch.tensor([1000.0])]))
    assert 0.97 < ends(observer)[1] <= 1


def test_more_values_than_float32_can_count_are_counted():
    counts = torch.zeros(1, 2**16, dtype=torch.int64)
    counts[0, 0x3F80] = 2**24 + 3  # of the value 1, by its first 16 bits
    observer = PercentileObserver(percentile=100)
    observer.load_state({"counts": counts})
    assert ends(observer) == (1, 1)


def test_each_channel_has_its_own_range():
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4) * torch.tensor([1.0, 10.0, 100.0])[:, None]
    observer = PercentileObserver(percentile=90, granularity=PerChannel(1))
    observer.forward(x)
    for channel in range(3):
        found = (float(observer.min_val[channel]), float(observer.max_val[channel]))
        assert found == by_sorting(x[:, channel].flatten().tolist(), 90)


@pytest.mark.parametrize("percentile", [50, 0, -1, 100.1, math.nan, math.inf])
def test_the_percentile_must_be_one(percentile: float):
    with pytest.raises(ValueError, match="percentile must be above 50 and at most 100"):
        PercentileObserver(percentile=percentile)
