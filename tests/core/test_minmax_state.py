import pickle

import pytest
import torch
from float32_values import values
from hypothesis import given
from hypothesis import strategies as st
from observed_ranges import ends, observed

from mono_quant.core.granularity import Granularity, PerChannel, PerTensor
from mono_quant.core.observers import MinMaxObserver

batches = st.lists(values(), min_size=1, max_size=5)
granularities = pytest.mark.parametrize("granularity", [PerTensor(), PerChannel(0), PerChannel(1), PerChannel(-1)])


@given(drawn=batches, cut=st.integers(0, 5))
def test_merging_two_observers_equals_one_that_saw_all(drawn: list[list[float]], cut: int):
    tensors = [torch.tensor(batch) for batch in drawn]
    first, second = observed(*tensors[:cut]), observed(*tensors[cut:])
    first.merge(second)
    assert ends(first) == ends(observed(*tensors))


@granularities
def test_merging_is_exact_per_channel_too(granularity: Granularity):
    x, y = torch.randn(3, 3), torch.randn(3, 3) * 2
    first, second = observed(x, granularity=granularity), observed(y, granularity=granularity)
    first.merge(second)
    assert ends(first) == ends(observed(x, y, granularity=granularity))


def test_merging_leaves_the_other_observer_as_it_was():
    first, second = observed(torch.tensor([-5.0, 5.0])), observed(torch.tensor([1.0]))
    first.merge(second)
    assert ends(second) == ([1.0], [1.0])


def test_after_a_merge_the_two_observers_go_on_apart():
    first, second = observed(), observed(torch.tensor([1.0]))
    first.merge(second)
    first.forward(torch.tensor([9.0]))
    assert ends(second) == ([1.0], [1.0])


def test_merging_two_that_saw_nothing_gives_one_that_saw_nothing():
    first = observed()
    first.merge(observed())
    assert first.range() is None


def test_it_declares_that_it_merges_exactly():
    assert MinMaxObserver.mergeable


def test_what_it_keeps_does_not_grow_with_the_data():
    observer = observed(*(torch.randn(10, 10) for _ in range(20)), granularity=PerChannel(1))
    assert sum(x.numel() for x in observer.state().values()) == 2 * 10


@granularities
def test_its_state_goes_round(granularity: Granularity):
    observer, other = observed(torch.randn(3, 3), granularity=granularity), observed(granularity=granularity)
    other.load_state(observer.state())
    assert ends(other) == ends(observer)


def test_the_state_of_one_that_saw_nothing_is_empty_and_goes_round():
    other = observed(torch.ones(2))
    other.load_state(observed().state())
    assert other.range() is None


def test_it_goes_on_from_a_loaded_state():
    other = observed()
    other.load_state(observed(torch.tensor([-1.0, 1.0])).state())
    other.forward(torch.tensor([5.0]))
    assert ends(other) == ([-1.0], [5.0])


def test_it_survives_pickling_with_its_data_and_options():
    observer = observed(torch.randn(2, 3), dtype="uint8", symmetric=True, granularity=PerChannel(1))
    again = pickle.loads(pickle.dumps(observer))  # noqa: S301 - our own bytes
    assert ends(again) == ends(observer)
    assert [x.tolist() for x in again.calculate_qparams()] == [x.tolist() for x in observer.calculate_qparams()]
