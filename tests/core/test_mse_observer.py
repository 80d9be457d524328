import math

import pytest
import torch
from binned_errors import bins_of, slow_error
from hypothesis import given
from hypothesis import strategies as st
from observing import ends_of, heavy_tails, seen, squared_error

from mono_quant.core.affine import choose_qparams, codes_of
from mono_quant.core.granularity import PerChannel
from mono_quant.core.observers import MinMaxObserver, MSEObserver
from mono_quant.core.observers.bins import mean_errors
from mono_quant.core.qtypes import INT8, UINT8, int_type

some_counts = st.lists(st.integers(0, 9), min_size=4, max_size=40).filter(lambda counts: len(counts) % 2 == 0)


@given(
    counts=some_counts,
    scale=st.floats(1e-3, 2),
    zero_point=st.integers(0, 255),
    norm=st.sampled_from([0.5, 1, 2, 2.4, 3]),
    ends=st.tuples(st.sampled_from([-1, -0.7, 0, 0.3]), st.sampled_from([1, 0.31, 0.3])),
)
def test_the_error_over_bins_is_that_of_integrating_piece_by_piece(
    counts: list[int], scale: float, zero_point: int, norm: float, ends: tuple[float, float]
):
    bins = bins_of(counts, low=ends[0], high=ends[1])
    found = mean_errors(bins, torch.tensor([scale]), torch.tensor([zero_point]), UINT8, norm=norm)
    expected = slow_error(bins, float(torch.tensor(scale)), zero_point, UINT8, norm)
    # The integral counts steps of up to 255 · (s/2)^p before it takes a difference.
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-9 * sum(counts))


def slow_errors(x: torch.Tensor, observer: MSEObserver) -> list[float]:
    """The error of each candidate on the data itself."""
    errors = []
    for i in range(math.ceil(observer.maxshrink * observer.grid)):
        p = 1 - i / observer.grid
        ends = (x.min().double() * p, x.max().double() * p)
        scale, zero_point = choose_qparams(*ends, observer.qtype, symmetric=observer.symmetric)
        back = (codes_of(x.double(), scale.double(), zero_point, observer.qtype) - zero_point) * scale.double()
        errors.append(float((back - x).abs().pow(observer.norm).sum()))
    return errors


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4"])
@pytest.mark.parametrize("norm", [1.0, 2.0, 2.4, 4.0])
@pytest.mark.parametrize("kind", ["normal", "relu", "heavy-tails"])
def test_it_finds_the_best_candidate_on_the_data(kind: str, norm: float, dtype: str, *, symmetric: bool):
    x = heavy_tails(20_000)
    if kind != "heavy-tails":
        x = torch.randn(20_000, generator=torch.Generator().manual_seed(1))
    x = x.relu() if kind == "relu" else x
    observer = seen(MSEObserver(dtype=dtype, norm=norm, maxshrink=0.9, symmetric=symmetric), *x.split(1500))
    errors = slow_errors(x, observer)
    chosen = round((1 - float(observer.max_val / x.max())) * observer.grid)
    assert errors[chosen] <= 1.005 * min(errors)  # 20000 values are not spread quite evenly within 2047 bins


def test_the_defaults_are_those_of_llm_compressor():
    observer = MSEObserver()
    assert (observer.maxshrink, observer.grid, observer.norm) == (0.2, 100, 2.4)
    x = heavy_tails(100_000)
    assert float(seen(MSEObserver(dtype="int2"), x).max_val / x.max()) == pytest.approx(0.81)  # the last step


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_heavy_tails_are_quantized_with_less_error_than_by_min_max(dtype: str):
    x = heavy_tails(300_000)
    whole, found = (squared_error(x, seen(kind(dtype=dtype), x)) for kind in (MinMaxObserver, MSEObserver))
    wider = squared_error(x, seen(MSEObserver(dtype=dtype, maxshrink=0.9, norm=2), x))
    assert wider < found < 0.9 * whole


@pytest.mark.parametrize("numbers", [[3.0], [-0.7], [0.0], [0.0, 5.0], [-1e38, 1e38], [1e-40]])
def test_values_that_have_codes_of_their_own_keep_the_whole_range(numbers: list[float]):
    x = torch.tensor(numbers)
    assert ends_of(seen(MSEObserver(maxshrink=0.9), x)) == ([float(x.min())], [float(x.max())])


def test_zeros_cost_nothing():
    x = heavy_tails(10_000)
    with_zeros = torch.cat([x, torch.zeros(10**6)])
    one, other = (seen(MSEObserver(maxshrink=0.9, dtype="int4"), data) for data in (x, with_zeros))
    assert ends_of(one) == ends_of(other)


def test_each_channel_has_its_own_range():
    x = torch.stack([heavy_tails(5000, seed=seed) * 100**seed for seed in range(3)], dim=1)
    low, high = ends_of(seen(MSEObserver(dtype="int4", granularity=PerChannel(1)), x))
    for channel in range(3):
        alone = ends_of(seen(MSEObserver(dtype="int4"), x[:, channel]))
        assert ([low[channel]], [high[channel]]) == alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maxshrink": 0}, "maxshrink must be above 0"),
        ({"maxshrink": 1}, "maxshrink must be above 0"),
        ({"maxshrink": math.nan}, "maxshrink must be above 0"),
        ({"grid": 0}, "grid must be a whole number"),
        ({"grid": 2.5}, "grid must be a whole number"),
        ({"norm": 0}, "norm must be above 0"),
        ({"norm": 21}, "norm must be above 0"),
    ],
)
def test_options_out_of_bounds_are_refused(options: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        MSEObserver(**options)


def test_the_scales_of_all_code_types_are_weighed():
    x = heavy_tails(3000)
    for qtype in (INT8, int_type(2), int_type(5)):
        observer = seen(MSEObserver(dtype=qtype, maxshrink=0.9), x)
        errors = slow_errors(x, observer)
        assert errors[round((1 - float(observer.max_val / x.max())) * 100)] <= 1.01 * min(errors)
