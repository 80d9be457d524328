import pytest
import torch
from float32_values import values
from hypothesis import given
from hypothesis import strategies as st
from observing import ends_of, seen

from mono_quant.core.granularity import PerChannel
from mono_quant.core.observers import AbsMaxObserver, MinMaxObserver

batches = st.lists(values(), min_size=1, max_size=5)


@given(drawn=batches, cut=st.integers(0, 5))
def test_the_range_is_the_largest_magnitude_on_either_side(drawn: list[list[float]], cut: int):
    largest = max(abs(x) for batch in drawn for x in batch)
    tensors = [torch.tensor(batch) for batch in drawn]
    assert ends_of(seen(AbsMaxObserver(), *tensors)) == ([-largest], [largest])
    first, second = seen(AbsMaxObserver(), *tensors[:cut]), seen(AbsMaxObserver(), *tensors[cut:])
    first.merge(second)
    assert ends_of(first) == ([-largest], [largest])


@given(numbers=values(), dtype=st.sampled_from(["int8", "uint8"]))
def test_symmetric_scales_are_those_of_min_max(numbers: list[float], dtype: str):
    x = torch.tensor(numbers)
    one, other = (seen(kind(dtype, symmetric=True), x).calculate_qparams() for kind in (AbsMaxObserver, MinMaxObserver))
    assert (float(one[0]), int(one[1])) == (float(other[0]), int(other[1]))


def test_each_channel_has_its_own():
    x = torch.tensor([[1.0, -2.0, 0.0], [-3.0, 0.5, 0.0]])
    assert ends_of(seen(AbsMaxObserver(granularity=PerChannel(1)), x)) == ([-3.0, -2.0, 0.0], [3.0, 2.0, 0.0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_shows(bad: float):
    observer = seen(AbsMaxObserver(), torch.tensor([1.0, bad]), torch.ones(2))
    assert observer.max_val is not None
    assert not torch.isfinite(observer.max_val)
