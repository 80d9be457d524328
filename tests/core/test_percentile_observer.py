import math
from fractions import Fraction

import pytest
import torch
from float32_values import values
from hypothesis import given
from hypothesis import strategies as st
from observing import ends_of, heavy_tails, seen, squared_error

from mono_quant.core.granularity import PerChannel
from mono_quant.core.observers import MinMaxObserver, PercentileObserver

percentiles = st.sampled_from([50.5, 75, 90, 99, 99.99, 100])


def rounded(value: float) -> float:
    """The nearest number with 8 significant bits, half to even: bfloat16, the slow way."""
    step = Fraction(2) ** max(math.frexp(value)[1] - 8, -133)
    return float(round(Fraction(value) / step) * step)


def slow(numbers: list[float], percentile: float) -> tuple[list[float], list[float]]:
    """Sort; number ``ceil(n p / 100)`` from below, and as many from above; rounded, and within the data."""
    ordered = sorted(numbers)
    inside = math.ceil(len(numbers) * (percentile / 100))
    low, high = (min(max(rounded(x), ordered[0]), ordered[-1]) for x in (ordered[-inside], ordered[inside - 1]))
    return [low], [high]


@given(numbers=values(), percentile=percentiles)
def test_the_range_is_that_of_sorting(numbers: list[float], percentile: float):
    observer = seen(PercentileObserver(percentile=percentile), torch.tensor(numbers))
    assert ends_of(observer) == slow(numbers, percentile)


@given(drawn=st.lists(values(), min_size=1, max_size=5), cut=st.integers(0, 5), percentile=percentiles)
def test_batches_and_merging_change_nothing(drawn: list[list[float]], cut: int, percentile: float):
    expected = slow([x for batch in drawn for x in batch], percentile)
    tensors = [torch.tensor(batch) for batch in drawn]
    assert ends_of(seen(PercentileObserver(percentile=percentile), *tensors)) == expected
    first, second = (PercentileObserver(percentile=percentile) for _ in range(2))
    seen(first, *tensors[:cut]).merge(seen(second, *tensors[cut:]))
    assert ends_of(first) == expected


def test_one_in_ten_thousand_is_left_out_on_each_side():
    assert PercentileObserver().percentile == 99.99
    x = torch.cat([torch.linspace(-1, 1, 9998), torch.tensor([1000.0, -300.0])])
    assert ends_of(seen(PercentileObserver(), x)) == ([-1.0], [1.0])
    assert ends_of(seen(PercentileObserver(percentile=100), x)) == ([-300.0], [1000.0])


def test_each_channel_has_its_own_range():
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0, 100.0])[:, None]
    low, high = ends_of(seen(PercentileObserver(percentile=90, granularity=PerChannel(1)), x[:2], x[2:]))
    for channel in range(3):
        assert ([low[channel]], [high[channel]]) == slow(x[:, channel].flatten().tolist(), 90)


def test_more_values_than_float32_can_count_are_counted():
    observer = seen(PercentileObserver(percentile=100), torch.ones(1))
    state = observer.state()
    state["bfloat16_counts"][0, 0x3F80] = 2**40 + 3
    observer.load_state(state)
    assert ends_of(observer) == ([1.0], [1.0])
    observer = PercentileObserver(percentile=75)
    state["bfloat16_counts"][0, 0x4000] = 2**40  # as many twos, of which the outer half is left out
    observer.load_state(state | {"max": torch.tensor([2.0])})
    assert ends_of(observer) == ([1.0], [2.0])


@pytest.mark.parametrize(("dtype", "times"), [("int8", 1), ("int4", 2)])
def test_heavy_tails_are_quantized_with_less_error_than_by_min_max(dtype: str, times: float):
    x = heavy_tails(300_000)
    whole, inner = (squared_error(x, seen(kind(dtype=dtype), x)) for kind in (MinMaxObserver, PercentileObserver))
    assert inner < whole / times


@pytest.mark.parametrize("percentile", [50, 0, -1, 100.1, math.nan, math.inf])
def test_the_percentile_must_be_one(percentile: float):
    with pytest.raises(ValueError, match="percentile must be above 50 and at most 100"):
        PercentileObserver(percentile=percentile)
