"""The numbers of a report against loops over single elements."""

import math

import pytest
import torch
from mono_quant.plugin_api import WeightSpec
from torch import Tensor, nn

from mono_quant_report.figures import Weight, channel_ends, code_ends, histogram, sqnr, total_bytes


def spec(shape: tuple[int, ...], granularity: str, dtype: str = "int8", *, symmetric: bool = True) -> WeightSpec:
    return WeightSpec(dtype=dtype, symmetric=symmetric, granularity=granularity, shape=shape)


def weight(original: Tensor | None, decoded: Tensor) -> Weight:
    shape = tuple(decoded.shape)
    return Weight(name="w", spec=spec(shape, "per-tensor"), stored={}, decoded=decoded, original=original)


def test_sqnr_is_the_ratio_of_energies_of_all_weights_together():
    torch.manual_seed(0)
    pairs = [(x, (x * 20).round() / 20) for x in (torch.randn(3, 4), torch.randn(5))]
    values = [(a, b) for x, y in pairs for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)]
    expected = 10 * math.log10(math.fsum(a * a for a, _ in values) / math.fsum((a - b) ** 2 for a, b in values))
    assert sqnr([weight(*pair) for pair in pairs]) == pytest.approx(expected, rel=1e-12)


def test_sqnr_of_more_elements_than_one_block_counts_each_once():
    x = torch.ones(2**18 + 7)
    assert sqnr([weight(x, x * 0.5)]) == pytest.approx(10 * math.log10(4), rel=1e-12)


@pytest.mark.parametrize(
    ("original", "decoded", "expected"),
    [([1.0], [1.0], math.inf), ([0.0], [1.0], -math.inf), ([math.nan], [1.0], math.nan), ([], [], math.inf)],
)
def test_sqnr_of_what_has_no_finite_ratio(original: list[float], decoded: list[float], expected: float):
    found = sqnr([weight(torch.tensor(original), torch.tensor(decoded))])
    assert found == expected or math.isnan(found) is math.isnan(expected) is True


def test_sqnr_is_not_known_without_a_float_weight_or_any_weight():
    known, unknown = weight(torch.ones(2), torch.ones(2)), weight(None, torch.ones(2))
    assert sqnr([known, unknown]) is sqnr([]) is None


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_ends_of_channels_are_those_of_their_elements(axis: int):
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5)
    low, high = channel_ends(x, spec((3, 4, 5), f"per-channel({axis})"))
    for channel in range(x.shape[axis]):
        values = x.select(axis, channel).flatten().tolist()
        assert (low[channel], high[channel]) == (min(values), max(values))


def test_symmetric_int8_codes_reach_as_far_below_as_above():
    low, high = code_ends({"_scale": torch.tensor([0.5, 2.0])}, spec((2, 3), "per-channel(0)"))
    assert (low.tolist(), high.tolist()) == ([-63.5, -254.0], [63.5, 254.0])


def test_a_scale_for_all_is_that_of_each_channel():
    low, high = code_ends({"_scale": torch.tensor(0.5)}, spec((2, 3), "per-tensor"))
    assert (low.tolist(), high.tolist()) == ([-63.5, -63.5], [63.5, 63.5])


def test_codes_of_groups_reach_as_far_as_their_widest_group():
    stored = {"_scale": torch.tensor([[1.0, 3.0], [0.5, 0.25]]), "_zero_point": torch.tensor([[0, 7], [-8, 0]])}
    low, high = code_ends(stored, spec((2, 32), "per-group(16)", "int4", symmetric=False))
    for channel in range(2):
        pairs = [(float(stored["_scale"][channel, g]), int(stored["_zero_point"][channel, g])) for g in range(2)]
        assert low[channel] == min((-8 - zero) * scale for scale, zero in pairs)
        assert high[channel] == max((7 - zero) * scale for scale, zero in pairs)


def test_a_histogram_counts_each_finite_value_once():
    torch.manual_seed(0)
    x, y = torch.randn(2000), torch.randn(2000) * 2
    x[0] = math.nan
    found = histogram(x, y)
    for counts, values in ((found.floats, x.tolist()[1:]), (found.decoded, y.tolist())):
        for place in range(len(counts)):
            start, stop = found.edges[place], found.edges[place + 1]
            is_last = place == len(counts) - 1
            assert counts[place] == sum(start <= v < stop or (is_last and v == stop) for v in values)
    assert (found.floats.sum(), found.decoded.sum()) == (1999, 2000)


@pytest.mark.parametrize("value", [0.0, 1e-30, -3e38])
def test_a_constant_has_a_histogram(value: float):
    found = histogram(None, torch.full((50,), value))
    assert (found.floats, found.decoded.sum()) == (None, 50)


def test_shared_tensors_are_counted_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4))
    model.append(model[0])
    assert total_bytes(model) == 16 * 4 + 4 * 4 * 4 + 8
