"""Figures of a layer's input against a slow, obvious reference in float64."""

import math

import pytest
import torch
from torch import Tensor

from mono_quant.core import blocks
from mono_quant.core.qtypes import UINT8
from mono_quant.layer_report.input_figures import InputFigures

SCALE, ZERO_POINT = 0.125, 40  # exact, so that no rounding is in question
HUGE = torch.finfo(torch.float32).max


def figures(*inputs: Tensor, axis: int = -1, scale: float = SCALE, zero_point: int = ZERO_POINT) -> InputFigures:
    seen = InputFigures(UINT8, (scale, zero_point), axis)
    for x in inputs:
        seen(x)
    return seen


def slow_percents(x: Tensor, scale: float = SCALE, zero_point: int = ZERO_POINT) -> tuple[float, float]:
    """Clipped, and used: value by value, in Python."""
    codes = [round(value / scale) + zero_point for value in x.double().flatten().tolist()]
    clipped = sum(not 0 <= code <= 255 for code in codes)
    ordered = sorted(min(max(code, 0), 255) for code in codes)
    left_out = len(ordered) // 2000
    return 100 * clipped / len(codes), 100 * (ordered[len(ordered) - 1 - left_out] - ordered[left_out]) / 255


def slow_outliers(x: Tensor, axis: int) -> int:
    largest = sorted(float(channel.abs().max()) for channel in x.double().unbind(axis))
    alive = [value for value in largest if value > 0]
    median = alive[(len(alive) - 1) // 2]
    return sum(value > 6 * median for value in alive)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.01, 3.0, 40.0])
@pytest.mark.parametrize("shape", [(3, 7), (5, 4, 6), (1000, 16)], ids=str)
def test_the_percents_are_those_of_counting_value_by_value(seed: int, spread: float, shape: tuple[int, ...]):
    x = spread * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    seen = figures(x)
    assert (seen.saturation_percent, seen.range_used_percent) == pytest.approx(slow_percents(x), abs=1e-12)


def test_a_piece_at_a_time_gives_the_same_as_all_at_once(monkeypatch: pytest.MonkeyPatch):
    x = 10 * torch.randn(300, 8)
    whole = figures(x)
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 64)
    pieces = figures(*x.split([1, 99, 200]))
    for name in ("saturation_percent", "range_used_percent", "outlier_channels", "input_channels"):
        assert getattr(pieces, name) == getattr(whole, name)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((6, 32), -1), ((2, 3, 32), -1), ((32,), -1), ((2, 32, 5), -2), ((32, 5, 5), -3), ((2, 32, 4, 5, 6), -4)],
    ids=str,
)
def test_outlier_channels_are_found_along_their_axis_with_a_batch_or_without(shape: tuple[int, ...], axis: int):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 0.5
    x.movedim(axis, 0)[[3, 20]] *= 30
    x.movedim(axis, 0)[[5, 6, 7]] = 0
    seen = figures(x, axis=axis)
    assert (seen.input_channels, seen.outlier_channels) == (32, 2)
    assert slow_outliers(x, axis) == 2


@pytest.mark.parametrize(
    ("x", "clipped", "used"),
    [
        (torch.zeros(4, 4), 0, 0),
        (torch.full((4, 4), 2.0), 0, 0),
        (torch.tensor([[-5.0, 26.875]]), 0, 100),  # the ends of the range
        (torch.tensor([[-5.0625, 26.9375]]), 50, 100),  # half a step beyond: half to even stays below, and not above
        (torch.tensor([[HUGE, -HUGE]]), 100, 100),
        (torch.tensor([[math.inf, -math.inf, 0.0, 0.0]]), 50, 100),
        (torch.full((2, 2), math.nan), 0, 0),
        (torch.full((2, 2), 1e-45), 0, 0),
        (torch.tensor([[-5.0, 26.875]]).double(), 0, 100),
        (torch.tensor([[-5.0, 26.875]]).bfloat16(), 0, 100),
    ],
    ids=["zeros", "constant", "ends", "beyond", "huge", "infinite", "NaN", "tiny", "float64", "bfloat16"],
)
def test_extremes(x: Tensor, clipped: float, used: float):
    seen = figures(x)
    assert (seen.saturation_percent, seen.range_used_percent) == (clipped, used)


def test_a_scale_so_small_that_quotients_overflow_clips_everything_but_zero():
    seen = figures(torch.tensor([[1e30, 0.0]]), scale=torch.finfo(torch.float32).tiny, zero_point=0)
    assert seen.saturation_percent == 50


def test_one_value_in_two_thousand_may_lie_outside_of_what_is_used():
    x = torch.zeros(2000, 1)
    x[0], x[1] = -5.0, 26.875
    assert figures(x).range_used_percent == 0
    assert figures(x[:1999]).range_used_percent == 100


@pytest.mark.parametrize("inputs", [(), (torch.empty(0, 8),)], ids=["none", "empty"])
def test_of_nothing_nothing_is_said(inputs: tuple[Tensor, ...]):
    seen = figures(*inputs)
    assert (seen.saturation_percent, seen.range_used_percent, seen.input_channels, seen.outlier_channels) == (None,) * 4


def test_all_zero_channels_have_no_outliers():
    assert figures(torch.zeros(3, 4)).outlier_channels == 0


def test_without_a_fixed_range_only_channels_are_looked_at():
    seen = InputFigures(UINT8, None, -1)
    seen(torch.ones(2, 5))
    assert (seen.saturation_percent, seen.range_used_percent) == (None, None)
    assert (seen.input_channels, seen.outlier_channels) == (5, 0)
