from fractions import Fraction

import pytest
import torch
from exact_affine import HALF_ULP, exact_scale
from float32_values import values
from hypothesis import given
from hypothesis import strategies as st
from observed_ranges import ends, observed
from torch import Tensor

from mono_quant.core.granularity import Granularity, PerChannel, PerTensor
from mono_quant.core.observers import MinMaxObserver
from mono_quant.core.qtypes import INT8, UINT8, QType
from mono_quant.errors import ConfigurationError

batches = st.lists(values(), min_size=1, max_size=5)
granularities = pytest.mark.parametrize("granularity", [PerTensor(), PerChannel(0), PerChannel(1), PerChannel(-1)])


def slow_ends(x: Tensor, granularity: Granularity) -> tuple[list[float], list[float]]:
    """Smallest and largest number of each group, one after another."""
    slices = x.unbind(granularity.axis) if isinstance(granularity, PerChannel) else [x]
    return [min(one.flatten().tolist()) for one in slices], [max(one.flatten().tolist()) for one in slices]


@granularities
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (2, 3, 4, 5), (1, 1)])
def test_the_range_is_that_of_each_group(granularity: Granularity, shape: tuple[int, ...]):
    x = torch.randn(shape)
    assert ends(observed(x, granularity=granularity)) == slow_ends(x, granularity)


@granularities
def test_the_memory_layout_of_the_data_does_not_matter(granularity: Granularity):
    x = torch.randn(2, 3, 4, 5)
    expected = slow_ends(x, granularity)
    assert ends(observed(x.to(memory_format=torch.channels_last), granularity=granularity)) == expected
    assert ends(observed(x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0), granularity=granularity)) == expected


@given(drawn=batches)
def test_one_batch_after_another_gives_the_range_of_all(drawn: list[list[float]]):
    together = [x for batch in drawn for x in batch]
    assert ends(observed(*map(torch.tensor, drawn))) == ends(observed(torch.tensor(together)))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@granularities
def test_an_empty_tensor_changes_nothing(shape: tuple[int, ...], granularity: Granularity):
    if isinstance(granularity, PerChannel) and granularity.axis >= len(shape):
        granularity = PerChannel(0)
    observer = observed(torch.empty(shape), granularity=granularity)
    assert observer.range() is None
    observer.forward(torch.ones(2, 3))
    before = ends(observer)
    observer.forward(torch.empty(shape))
    assert ends(observer) == before


def test_a_number_is_data():
    assert ends(observed(torch.tensor(3.0))) == ([3.0], [3.0])


def test_the_tensor_comes_back_as_it_went_in():
    x = torch.randn(4, 4)
    before = x.clone()
    assert observed().forward(x) is x
    assert torch.equal(x, before)


def test_changing_the_data_afterwards_does_not_change_the_range():
    x = torch.tensor([2.0])
    observer = observed(x, granularity=PerChannel(0))
    x.fill_(7.0)
    assert ends(observer) == ([2.0], [2.0])


def test_no_gradient_is_kept_of_what_was_seen():
    observer = observed(torch.ones(2, requires_grad=True))
    assert observer.min_val is not None
    assert not observer.min_val.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_data_of_any_float_type_is_observed(dtype: torch.dtype):
    assert ends(observed(torch.tensor([-2.5, 3.5], dtype=dtype), torch.tensor([4.5]))) == ([-2.5], [4.5])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 5, 11])
@granularities
def test_what_is_not_finite_shows_in_the_range_and_stays(bad: float, place: int, granularity: Granularity):
    x = torch.ones(3, 4)
    x.view(-1)[place] = bad
    observer = observed(torch.ones(3, 4), x, torch.ones(3, 4), granularity=granularity)
    low, high = observer.min_val, observer.max_val
    assert low is not None
    assert high is not None
    assert not torch.isfinite(torch.stack([low, high])).all()
    assert MinMaxObserver.shows_non_finite


@given(numbers=values(), dtype=st.sampled_from((INT8, UINT8)), symmetric=st.booleans())
def test_the_scale_is_that_of_the_range_and_at_least_1e_8(numbers: list[float], dtype: QType, symmetric: bool):  # noqa: FBT001
    scale, _ = observed(torch.tensor(numbers), dtype=dtype, symmetric=symmetric).calculate_qparams()
    exact = max(exact_scale(min(numbers), max(numbers), dtype, symmetric=symmetric), Fraction(1e-8))
    through_float64 = Fraction(1, 2**50)
    assert abs(Fraction(scale.item()) - exact) <= exact * (HALF_ULP + through_float64)


@pytest.mark.parametrize(
    ("dtype", "zero_point"),
    [("int8", -128), ("uint8", 0), (torch.int8, -128), (torch.quint8, 0), (UINT8, 0)],
)
def test_a_range_above_zero_starts_at_the_lowest_code_of_its_type(dtype: object, zero_point: int):
    assert int(observed(torch.tensor([0.0, 1.0]), dtype=dtype).calculate_qparams()[1]) == zero_point


def test_a_type_that_holds_no_codes_is_refused():
    with pytest.raises(ConfigurationError, match="int32"):
        MinMaxObserver(torch.int32)


@pytest.mark.parametrize(("granularity", "shape"), [(PerTensor(), ()), (PerChannel(0), (2,)), (PerChannel(1), (3,))])
def test_everything_it_tells_has_the_shape_of_its_granularity(granularity: Granularity, shape: tuple[int, ...]):
    observer = observed(torch.randn(2, 3), granularity=granularity)
    told = [observer.min_val, observer.max_val, *observer.calculate_qparams()]
    assert [None if x is None else tuple(x.shape) for x in told] == [shape] * 4


def test_reading_it_has_no_side_effect():
    observer = observed(torch.tensor([-1.0, 2.0]))
    first = [observer.min_val, observer.max_val, *observer.calculate_qparams(), *observer.state().values()]
    second = [observer.min_val, observer.max_val, *observer.calculate_qparams(), *observer.state().values()]
    assert [x.tolist() for x in first if x is not None] == [x.tolist() for x in second if x is not None]
    assert ends(observer) == ([-1.0], [2.0])


def test_calling_it_observes():
    observer = MinMaxObserver()
    observer(torch.tensor([4.0]))
    assert ends(observer) == ([4.0], [4.0])


def test_after_a_reset_it_has_seen_nothing():
    observer = observed(torch.ones(2))
    observer.reset()
    assert (observer.min_val, observer.max_val, observer.state()) == (None, None, {})


def test_before_data_it_names_the_repair():
    with pytest.raises(RuntimeError, match=r"MinMaxObserver has observed no data: call forward\(x\)"):
        MinMaxObserver().calculate_qparams()
