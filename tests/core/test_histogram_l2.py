"""The search by squared error, against trying every pair of ends one after another."""

import math
from itertools import pairwise

import pytest
import torch
from binned_errors import bins_of, slow_error
from hypothesis import given, settings
from hypothesis import strategies as st
from observing import ends_of, heavy_tails, seen, squared_error

from mono_quant.core.affine import choose_qparams, codes_of
from mono_quant.core.granularity import PerChannel
from mono_quant.core.observers import HistogramObserver, MinMaxObserver, MSEObserver
from mono_quant.core.observers.bins import Bins, candidates
from mono_quant.core.observers.squared_error import least_squared_error
from mono_quant.core.qtypes import INT8, UINT8, QType, int_type

qtypes = st.sampled_from([INT8, UINT8, int_type(4), int_type(2)])
some_counts = st.lists(st.integers(0, 1000), min_size=4, max_size=24).filter(
    lambda counts: len(counts) % 2 == 0 and any(counts)
)


def slow_objective(bins: Bins, low: float, high: float, qtype: QType, *, symmetric: bool) -> float:
    """``N s² / 12`` and the squared distances of what is clipped, bin by bin."""
    reach = max(-low, high) * 2 / (2 * ((qtype.qmax - qtype.qmin) // 2))
    step = reach if symmetric else (max(high, 0) - min(low, 0)) / (qtype.qmax - qtype.qmin)
    total = 0.0
    for count, a, b in zip(bins.counts.tolist(), bins.edges[:-1].tolist(), bins.edges[1:].tolist(), strict=True):
        if b <= low:
            total += count * squares(low - a, low - b)
        elif a >= high:
            total += count * squares(b - high, a - high)
        else:
            total += count * max(step, 1e-8) ** 2 / 12
    return total


def squares(far: float, near: float) -> float:
    """The mean square of numbers spread evenly between two."""
    return (far**2 + far * near + near**2) / 3


@settings(deadline=None)
@given(counts=some_counts, qtype=qtypes, symmetric=st.booleans())
def test_no_pair_of_ends_has_less_error(counts: list[int], qtype: QType, symmetric: bool):  # noqa: FBT001
    bins = bins_of(counts)
    low, high = (float(end) for end in least_squared_error(bins, qtype, symmetric=symmetric))
    lows, highs = bins.edges[: bins.zero].tolist(), bins.edges[bins.zero + 1 :].tolist()
    pairs = [(-t, t) for t in highs] if symmetric else [(one, other) for one in lows for other in highs]
    least = min(slow_objective(bins, *pair, qtype, symmetric=symmetric) for pair in pairs)
    if (low, high) == (-1.0, 1.0):  # kept, as the exact error of what was found is not less
        objectives = {pair: slow_objective(bins, *pair, qtype, symmetric=symmetric) for pair in pairs}
        best = [pair for pair, error in objectives.items() if math.isclose(error, least, rel_tol=1e-9)]
        errors = [exact(bins, *pair, qtype, symmetric=symmetric) for pair in best]
        assert (low, high) in best or max(errors) >= exact(bins, -1.0, 1.0, qtype, symmetric=symmetric) * (1 - 1e-9)
    else:
        assert slow_objective(bins, low, high, qtype, symmetric=symmetric) == pytest.approx(least, rel=1e-9)
        whole = exact(bins, -1.0, 1.0, qtype, symmetric=symmetric)
        assert exact(bins, low, high, qtype, symmetric=symmetric) < whole * (1 + 1e-9)


def exact(bins: Bins, low: float, high: float, qtype: QType, *, symmetric: bool) -> float:
    ends = torch.tensor([low, high], dtype=torch.float64)
    scale, zero_point = choose_qparams(*ends, qtype, symmetric=symmetric, smallest_scale=1e-8)
    return slow_error(bins, float(scale), int(zero_point), qtype, 2)


def test_candidates_are_every_bin_at_first_and_then_a_32nd_of_an_octave_apart():
    distances = candidates(bins_of([1] * 2 * 2047)).tolist()
    assert distances[0] == 2047
    assert distances == sorted(set(distances), reverse=True)
    assert set(range(1, 32)) <= set(distances)
    assert all(one <= other * 2 ** (1 / 32) + 1 for one, other in pairwise(distances))
    assert candidates(bins_of([1] * 2)).tolist() == [1]


def best_on_the_data(x: torch.Tensor, dtype: str, *, symmetric: bool) -> float:
    """The least mean squared error of quantizing some values with any of 64 x 64 ranges."""
    qtype = MinMaxObserver(dtype).qtype
    parts = torch.arange(1, 65, dtype=torch.float64) / 64
    least = math.inf
    for p in parts:
        for q in [p] if symmetric else parts:
            scale, zero_point = choose_qparams(x.min() * p, x.max() * q, qtype, symmetric=symmetric)
            back = (codes_of(x.double(), scale.double(), zero_point, qtype) - zero_point) * scale.double()
            least = min(least, float((back - x).square().mean()))
    return least


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("kind", ["normal", "relu", "heavy-tails", "skewed"])
def test_it_is_as_good_as_the_best_of_a_grid_on_the_data_itself(kind: str, dtype: str, *, symmetric: bool):
    x = heavy_tails(10_000)
    normal = torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    x = {"normal": normal, "relu": normal.relu(), "heavy-tails": x, "skewed": x.relu() * 5 + normal}[kind]
    found = squared_error(x, seen(HistogramObserver(dtype=dtype, symmetric=symmetric), *x.split(1500)))
    # The mean square of n numbers spread evenly about zero varies by sqrt(4 / 5 n) of itself from sample to sample, and
    # the least of 4096 samples is 3.5 times that below the mean.
    luck = 3.5 * math.sqrt(4 / 5 / len(x))
    assert found <= best_on_the_data(x, dtype, symmetric=symmetric) * (1 + luck)
    assert found <= squared_error(x, seen(MinMaxObserver(dtype, symmetric=symmetric), x)) * (1 + luck)


@pytest.mark.parametrize(("dtype", "times"), [("int8", 1.3), ("int4", 4)])
def test_heavy_tails_are_quantized_with_less_error_than_by_min_max(dtype: str, times: float):
    x = heavy_tails(300_000)
    whole, found = (squared_error(x, seen(kind(dtype=dtype), x)) for kind in (MinMaxObserver, HistogramObserver))
    assert found < whole / times
    assert found < squared_error(x, seen(MSEObserver(dtype=dtype), x))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    "numbers", [[3.0], [-0.7], [0.0], [0.0, 5.0] * 9, [-1e38, 1e38], [1e-40], [1000.0] * 50, [0.0] * 99 + [1.0]]
)
def test_values_that_have_codes_of_their_own_keep_the_whole_range(numbers: list[float], *, symmetric: bool):
    x = torch.tensor(numbers)
    found = ends_of(seen(HistogramObserver(symmetric=symmetric), x))
    assert found == ([float(x.min())], [float(x.max())])


def test_zeros_cost_nothing():
    x = heavy_tails(10_000)
    with_zeros = torch.cat([x, torch.zeros(10**6)])
    one, other = (seen(HistogramObserver(dtype="int4"), data) for data in (x, with_zeros))
    assert ends_of(one) == ends_of(other)


def test_each_channel_has_its_own_range():
    x = torch.stack([heavy_tails(5000, seed=seed) * 100**seed for seed in range(3)], dim=1)
    low, high = ends_of(seen(HistogramObserver(granularity=PerChannel(1)), x))
    for channel in range(3):
        assert ([low[channel]], [high[channel]]) == ends_of(seen(HistogramObserver(), x[:, channel]))


def test_an_unknown_search_is_refused():
    with pytest.raises(ValueError, match="search must be one of 'l2', 'entropy', got 'greedy'"):
        HistogramObserver(search="greedy")
