"""The observer against exact arithmetic on fractions."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mono_quant.core.granularity import PerChannel

from mono_quant_spread import SpreadObserver

FINITE = st.floats(min_value=-(2.0**100), max_value=2.0**100, allow_subnormal=False, width=32)
ROUNDING = 2**-48
"""Sixteen float64 roundings: the variance, its root, and the few steps between them."""


def reference(values: list[float], k: float) -> tuple[float, float]:
    """The range of the definition: exact up to one square root."""
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    reach = k * math.sqrt(sum((value - mean) ** 2 for value in exact) / len(exact))
    return max(min(values), float(mean) - reach), min(max(values), float(mean) + reach)


def ends(observer: SpreadObserver) -> tuple[float, float]:
    return float(observer.min_val), float(observer.max_val)


def assert_close(actual: tuple[float, float], expected: tuple[float, float], values: list[float]) -> None:
    largest = max(map(abs, values))
    for got, wanted in zip(actual, expected, strict=True):
        assert abs(got - wanted) <= (1 + len(values)) * ROUNDING * largest


@settings(deadline=None, max_examples=60)
@given(st.lists(FINITE, min_size=1, max_size=40), st.sampled_from([0.5, 1.0, 4.0]))
def test_the_range_is_that_of_the_definition(values: list[float], k: float):
    observer = SpreadObserver(k=k)
    observer.forward(torch.tensor(values))
    assert_close(ends(observer), reference(values, k), values)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(FINITE, min_size=1, max_size=10), min_size=1, max_size=6))
def test_batches_one_after_another_give_what_all_at_once_gives(batches: list[list[float]]):
    observer = SpreadObserver(k=1.0)
    for batch in batches:
        observer.forward(torch.tensor(batch))
    values = [value for batch in batches for value in batch]
    assert_close(ends(observer), reference(values, 1.0), values)


@settings(deadline=None, max_examples=60)
@given(st.lists(FINITE, max_size=10), st.lists(FINITE, min_size=1, max_size=10))
def test_merging_gives_what_one_observer_of_all_gives(left: list[float], right: list[float]):
    one, other = SpreadObserver(k=1.0), SpreadObserver(k=1.0)
    one.forward(torch.tensor(left))
    other.forward(torch.tensor(right))
    one.merge(other)
    assert_close(ends(one), reference(left + right, 1.0), left + right)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(FINITE, min_size=1, max_size=8), min_size=1, max_size=5))
def test_the_range_never_exceeds_the_data(batches: list[list[float]]):
    observer = SpreadObserver(k=100.0)
    for batch in batches:
        observer.forward(torch.tensor(batch))
    values = [value for batch in batches for value in batch]
    low, high = ends(observer)
    assert min(values) <= low <= high <= max(values)


def test_a_small_spread_far_from_zero_is_not_lost():
    observer = SpreadObserver(k=1.0)
    for value in (1e6, 1e6 + 0.5, 1e6 + 1.0):
        observer.forward(torch.tensor([value]))
    reach = math.sqrt(1 / 6)
    assert ends(observer) == pytest.approx((1e6 + 0.5 - reach, 1e6 + 0.5 + reach), rel=2**-50, abs=0)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.4e38, 1e-38])
def test_a_constant_gives_that_constant(value: float):
    observer = SpreadObserver()
    for _ in range(3):
        observer.forward(torch.full((7,), value))
    assert ends(observer) == (float(torch.tensor(value)),) * 2


def test_an_outlier_widens_the_range_less_than_it_is_large():
    values = [0.0] * 999 + [1000.0]
    observer = SpreadObserver()
    observer.forward(torch.tensor(values))
    assert ends(observer)[1] < 130.0


def test_each_channel_has_its_own_range():
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4) * torch.tensor([1.0, 10.0, 100.0])[:, None]
    observer = SpreadObserver(k=1.0, granularity=PerChannel(1))
    observer.forward(x)
    for channel in range(3):
        values = x[:, channel].flatten().tolist()
        assert_close((observer.min_val[channel], observer.max_val[channel]), reference(values, 1.0), values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type_is_taken(dtype: torch.dtype):
    x = torch.tensor([-3.0, 0.5, 2.0, 7.0], dtype=dtype)
    observer = SpreadObserver(k=1.0)
    observer.forward(x)
    assert_close(ends(observer), reference(x.tolist(), 1.0), x.tolist())


def test_nothing_is_known_before_data_after_a_reset_and_of_empty_data():
    observer = SpreadObserver()
    before = observer.min_val
    observer.forward(torch.zeros(0, 4))
    empty = observer.range()
    observer.forward(torch.ones(3))
    observer.reset()
    assert (before, empty, observer.range(), observer.state()) == (None, None, None, {})


def test_scale_and_zero_point_cannot_be_had_before_data():
    with pytest.raises(RuntimeError, match="has observed no data"):
        SpreadObserver().calculate_qparams()


def test_observers_without_data_can_be_merged_and_used_afterwards():
    observer = SpreadObserver()
    observer.merge(SpreadObserver())
    assert observer.range() is None
    observer.forward(torch.tensor([1.0, 2.0]))
    assert ends(observer) == (1.0, 2.0)


def test_the_other_observer_is_unchanged_by_a_merge():
    one, other = SpreadObserver(), SpreadObserver()
    one.forward(torch.tensor([5.0]))
    other.forward(torch.tensor([1.0, 2.0]))
    one.merge(other)
    one.forward(torch.tensor([9.0]))
    assert ends(other) == (1.0, 2.0)


def test_a_restored_state_goes_on_as_the_original_would():
    original, restored = SpreadObserver(k=1.0), SpreadObserver(k=1.0)
    original.forward(torch.tensor([1.0, 2.0, 4.0]))
    restored.load_state(original.state())
    for observer in (original, restored):
        observer.forward(torch.tensor([8.0]))
    assert ends(restored) == ends(original)


def test_an_empty_state_restores_an_observer_without_data():
    observer = SpreadObserver()
    observer.forward(torch.ones(3))
    observer.load_state(SpreadObserver().state())
    assert observer.range() is None


def test_the_state_does_not_grow_with_the_batches():
    observer = SpreadObserver()
    sizes = set()
    for _ in range(5):
        observer.forward(torch.randn(16, 4))
        sizes.add(sum(tensor.numel() for tensor in observer.state().values()))
    assert sizes == {5}


def test_observing_leaves_the_data_as_it_was():
    x = torch.tensor([1.0, -2.0, 3.0])
    assert SpreadObserver().forward(x) is x
    assert x.tolist() == [1.0, -2.0, 3.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_shows_in_the_range(bad: float):
    observer = SpreadObserver()
    observer.forward(torch.tensor([1.0, bad, 2.0]))
    observer.forward(torch.tensor([1.0, 2.0]))
    assert not all(map(math.isfinite, ends(observer)))


@pytest.mark.parametrize("k", [0.0, -1.0, math.nan, math.inf])
def test_k_must_be_a_finite_number_above_zero(k: float):
    with pytest.raises(ValueError, match="k must be a finite number above 0"):
        SpreadObserver(k=k)
