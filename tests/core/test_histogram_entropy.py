"""The search by relative entropy, against its definition written out range by range and bin by bin."""

import math

import pytest
import torch
from binned_errors import bins_of
from hypothesis import given, settings
from hypothesis import strategies as st
from observing import ends_of, heavy_tails, seen, squared_error

from mono_quant.core.observers import HistogramObserver, MinMaxObserver
from mono_quant.core.observers.bins import candidates
from mono_quant.core.observers.entropy import least_entropy
from mono_quant.core.qtypes import QType, int_type


def slow_divergence(counts: list[int], first: int, last: int, levels: int) -> float:
    """``KL(P ‖ Q)`` of the bins from first to last."""
    sliced = counts[first:last]
    p = list(sliced)
    p[0] += sum(counts[:first])
    p[-1] += sum(counts[last:])
    q = [0.0] * len(p)
    for level in range(levels):
        bins = [j for j in range(len(p)) if j * levels // len(p) == level]
        shown = [j for j in bins if p[j]]
        for j in shown:
            q[j] = sum(sliced[j] for j in bins) / len(shown)
    if not sum(q):
        return math.inf
    p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
    if any(x and not y for x, y in zip(p, q, strict=True)):
        return math.inf
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x)


def slow_divergences(counts: list[int], qtype: QType, *, symmetric: bool) -> dict[int, float]:
    """Of each candidate, by its distance from zero in bins."""
    half = len(counts) // 2
    levels = qtype.qmax - qtype.qmin + 1
    held = [i for i, count in enumerate(counts) if count]
    folded = [counts[half + i] + counts[half - 1 - i] for i in range(half)]
    found = {}
    for t in candidates(bins_of(counts)).tolist():
        if symmetric:
            some, first, last = folded, 0, t
        else:
            some, first, last = counts, max(half - t, min(held[0], half)), min(half + t, max(held[-1] + 1, half))
        if last - first >= (levels // 2 if symmetric else levels):
            found[t] = slow_divergence(some, first, last, levels // 2 if symmetric else levels)
        elif t == half:
            found[t] = 0.0
    return found


def counts_of(low: int, high: int) -> st.SearchStrategy[list[int]]:
    one = st.one_of(st.integers(0, 3), st.integers(0, 1000), st.just(0))
    some = st.lists(one, min_size=low, max_size=high).filter(lambda c: len(c) % 2 == 0 and any(c))
    one_sign = some.map(lambda c: [0] * len(c) + c).filter(any)
    return st.one_of(some, one_sign, one_sign.map(lambda c: c[::-1]))


@settings(deadline=None, max_examples=300)
@given(counts=counts_of(8, 60), bits=st.sampled_from([2, 3, 4]), symmetric=st.booleans())
def test_it_is_the_least_by_the_definition(counts: list[int], bits: int, symmetric: bool):  # noqa: FBT001
    qtype = int_type(bits)
    low, high = least_entropy(bins_of(counts), qtype, symmetric=symmetric)
    half = len(counts) // 2
    t = round(float(high) * half)
    assert float(low) == -float(high)
    divergences = slow_divergences(counts, qtype, symmetric=symmetric)
    if not math.isinf(min(divergences.values())):
        assert divergences[t] == pytest.approx(min(divergences.values()), abs=1e-12)
    wider = [d for other, d in divergences.items() if other > t]
    assert not wider or min(wider) > divergences[t] - 1e-12


@pytest.mark.parametrize("symmetric", [False, True])
def test_it_is_the_least_by_the_definition_for_eight_bits(*, symmetric: bool):
    x = torch.cat([heavy_tails(20_000), torch.tensor([40.0])])
    observer = seen(HistogramObserver(search="entropy", bins=512, symmetric=symmetric), x)
    places = observer.state()["bin_counts"][0].tolist()
    counts = places[:511] + places[512:]
    divergences = slow_divergences(counts, observer.qtype, symmetric=symmetric)
    best = max(t for t, d in divergences.items() if math.isclose(d, min(divergences.values()), abs_tol=1e-12))
    width = 2.0 ** math.ceil(math.log2(float(x.abs().max()) / 511))
    assert ends_of(observer)[1] == [min(best * width, float(x.max()))]


def test_one_far_outlier_is_left_out():
    x = torch.cat([torch.randn(100_000, generator=torch.Generator().manual_seed(0)), torch.tensor([20.0])])
    for symmetric in (False, True):
        low, high = ends_of(seen(HistogramObserver(search="entropy", symmetric=symmetric), x))
        assert 2.5 < high[0] < 6
        assert -6 < low[0] < -2.5


def test_heavy_tails_are_quantized_with_less_error_than_by_min_max():
    x = heavy_tails(300_000)
    for dtype in ("int8", "int4"):
        found = squared_error(x, seen(HistogramObserver(search="entropy", dtype=dtype), x))
        assert found < squared_error(x, seen(MinMaxObserver(dtype), x))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("numbers", [[3.0], [-0.7], [0.0], [0.0, 5.0] * 9, [-1e38, 1e38], [1e-40], [1000.0] * 50])
def test_a_few_values_keep_the_whole_range(numbers: list[float], *, symmetric: bool):
    x = torch.tensor(numbers)
    found = ends_of(seen(HistogramObserver(search="entropy", symmetric=symmetric), x))
    assert found == ([float(x.min())], [float(x.max())])
