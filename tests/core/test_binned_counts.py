"""What observers that count in bins keep, against counting in exact fractions."""

import math
from collections import Counter
from fractions import Fraction

import pytest
import torch
from float32_values import values
from hypothesis import given
from hypothesis import strategies as st
from observing import ends_of, seen

from mono_quant.core.granularity import PerChannel
from mono_quant.core.observers import HistogramObserver, MSEObserver
from mono_quant.errors import ConfigurationError

batches = st.lists(values(), min_size=1, max_size=5)
sizes = st.sampled_from([2, 3, 7, 64, 2048])


def slow_counts(numbers: list[float], bins: int) -> Counter[int]:
    """Bin → how many; the width is doubled from 2^-126 on until the largest magnitude has a bin."""
    width = Fraction(2) ** -126
    while max(abs(Fraction(x)) for x in numbers) > (bins - 1) * width:
        width *= 2
    return Counter((1 if x > 0 else -1) * math.ceil(abs(Fraction(x)) / width) for x in numbers)


def counts(observer: HistogramObserver) -> Counter[int]:
    (row,) = observer.state()["bin_counts"].tolist()
    return Counter({place - observer.bins + 1: count for place, count in enumerate(row) if count})


@given(numbers=values(), bins=sizes)
def test_the_counts_are_those_of_the_definition(numbers: list[float], bins: int):
    assert counts(seen(HistogramObserver(bins=bins), torch.tensor(numbers))) == slow_counts(numbers, bins)


@given(drawn=batches, cut=st.integers(0, 5), bins=sizes)
def test_batches_and_merging_change_no_count(drawn: list[list[float]], cut: int, bins: int):
    expected = slow_counts([x for batch in drawn for x in batch], bins)
    tensors = [torch.tensor(batch) for batch in drawn]
    assert counts(seen(HistogramObserver(bins=bins), *tensors)) == expected
    first, second = (seen(HistogramObserver(bins=bins), *part) for part in (tensors[:cut], tensors[cut:]))
    before = second.state()
    first.merge(second)
    assert counts(first) == expected
    assert all(torch.equal(value, before[name]) for name, value in second.state().items())


pairs = st.tuples(st.floats(-9, 9, width=32), st.floats(-(2**33), 2**33, width=32))


@given(drawn=st.lists(pairs, min_size=1, max_size=9))
def test_each_group_has_bins_of_its_own(drawn: list[tuple[float, float]]):
    observer = HistogramObserver(bins=16, granularity=PerChannel(1))
    for pair in drawn:
        observer.forward(torch.tensor([pair]))
    for channel, row in enumerate(observer.state()["bin_counts"].tolist()):
        found = Counter({place - 15: count for place, count in enumerate(row) if count})
        assert found == slow_counts([pair[channel] for pair in drawn], 16)


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("count", [2**18 - 1, 2**18, 2**18 + 1, 3 * 2**18 + 5])
def test_data_of_any_size_is_counted_to_the_last_value(count: int, *, rectified: bool):
    x = torch.randn(count, generator=torch.Generator().manual_seed(count))
    x[::7] = -0.0
    x = x.relu() if rectified else x
    exponent = next(e for e in range(-20, 20) if float(x.abs().max()) <= 2047 * 2.0**e)
    bins = (x.double().abs() / 2.0**exponent).ceil() * x.double().sign()
    found, times = bins.unique(return_counts=True)
    expected = dict(zip(found.long().tolist(), times.tolist(), strict=True))
    assert counts(seen(HistogramObserver(), x)) == expected
    halves = seen(HistogramObserver(), x[: count // 3], x[count // 3 :].view(1, -1))
    assert counts(halves) == expected


def test_zeros_of_either_sign_are_counted_in_the_middle():
    assert counts(seen(HistogramObserver(), torch.tensor([0.0, -0.0, 1.0, -1e-40]))) == {0: 2, -1: 1, 1024: 1}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_another_type_are_counted_as_the_same_in_float32(dtype: torch.dtype):
    x = torch.randn(100, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert counts(seen(HistogramObserver(), x)) == counts(seen(HistogramObserver(), x.float()))


def test_float64_beyond_float32_counts_as_its_largest_number():
    largest = torch.finfo(torch.float32).max
    assert ends_of(seen(HistogramObserver(), torch.tensor([1e300, -1.0], dtype=torch.float64))) == ([-1.0], [largest])


def test_there_may_be_more_than_2_to_the_24_of_a_kind():
    observer = seen(HistogramObserver(), torch.tensor([1.0, 2.0]))
    state = observer.state()
    observer.load_state(state | {"bin_counts": state["bin_counts"] * 2**40})
    assert counts(seen(observer, torch.tensor([1.0]))) == {512: 2**40 + 1, 1024: 2**40}


def test_what_another_kind_has_counted_is_taken():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    observer = MSEObserver(dtype="uint8", norm=3)
    observer.load_state(seen(HistogramObserver(search="entropy"), x).state())
    assert ends_of(observer) == ends_of(seen(MSEObserver(dtype="uint8", norm=3), x))


def test_other_numbers_of_bins_do_not_mix():
    few, many = seen(HistogramObserver(bins=16), torch.ones(2)), HistogramObserver(bins=32)
    with pytest.raises(ValueError, match="counts in 16 bins do not fit an observer with bins=32"):
        many.merge(few)
    with pytest.raises(ValueError, match="counts in 16 bins do not fit an observer with bins=32"):
        many.load_state(few.state())
    assert many.range() is None


@pytest.mark.parametrize("bins", [1, 0, -5, 2**20 + 1, 3.0, "many", None])
def test_the_number_of_bins_must_be_one(bins: object):
    with pytest.raises(ValueError, match="bins must be a whole number from 2"):
        HistogramObserver(bins=bins)


@pytest.mark.parametrize("kind", [HistogramObserver, MSEObserver])
def test_codes_that_are_floats_have_no_steps_to_weigh(kind: type):
    with pytest.raises(ConfigurationError, match="integer codes, not float8_e4m3"):
        kind(dtype="float8_e4m3")
