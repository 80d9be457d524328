"""Figures of a layer's output against sums in float64."""

import math

import pytest
import torch
from small_models import sqnr
from torch import Tensor

from mono_quant.core import blocks
from mono_quant.layer_report.output_figures import OutputFigures


def figures(*pairs: tuple[object, object], axis: int | None = -1) -> OutputFigures:
    seen = OutputFigures(axis)
    for expected, actual in pairs:
        seen(expected, actual)
    return seen


def noisy(*shape: int, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    return x, x + 0.01 * torch.randn(shape, generator=generator) + shift


@pytest.mark.parametrize(("shape", "axis"), [((6, 8), -1), ((2, 8, 5, 5), -3), ((8, 4), -2)], ids=str)
def test_sqnr_and_shift_are_those_of_their_formulas(shape: tuple[int, ...], axis: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 16)
    x, y = noisy(*shape, shift=0.01)
    seen = figures((x, y), axis=axis)
    errors = (y.double() - x.double()).movedim(axis, -1).reshape(-1, shape[axis])
    mean = errors.mean(0, keepdim=True).expand_as(errors)
    assert seen.sqnr_db == pytest.approx(sqnr(x, y), abs=1e-9)
    of_means, count = float(mean.square().sum() / errors.square().sum()), len(errors)
    assert seen.shift_percent == pytest.approx(max(100 * (count * of_means - 1) / (count - 1), 0.0), rel=1e-9)


def test_a_pure_shift_is_all_of_the_noise_and_white_noise_has_little():
    x, y = noisy(1000, 4)
    assert figures((x.double(), x.double() + 0.25)).shift_percent == pytest.approx(100)
    assert figures((x, y)).shift_percent < 1


@pytest.mark.parametrize("count", [2, 3, 8])
def test_in_few_rows_white_noise_is_no_shift(count: int):
    assert figures(noisy(count, 4000)).shift_percent < 3
    assert figures(noisy(count, 4000, shift=0.1)).shift_percent > 95


def test_of_a_single_row_it_is_not_known_what_is_a_shift():
    x, y = noisy(8)
    assert figures((x, y)).sqnr_db == pytest.approx(sqnr(x, y), abs=1e-9)
    assert figures((x, y)).shift_percent is None
    assert figures((x, y), (x, y)).shift_percent is not None


def test_several_calls_are_one_signal():
    (x, y), (other, its) = noisy(4, 8), noisy(3, 8)
    both = sqnr(torch.cat([x, other]), torch.cat([y, its]))
    assert figures((x, y), (other, its)).sqnr_db == pytest.approx(both, abs=1e-9)


def test_without_noise_it_is_infinite_and_nothing_is_shifted():
    x, _ = noisy(3, 4)
    seen = figures((x, x.clone()))
    assert (seen.sqnr_db, seen.shift_percent) == (math.inf, 0.0)


def test_tensors_in_tuples_are_compared_and_integers_are_not():
    x, y = noisy(3, 4)
    nested, other = (x, (torch.ones(2, dtype=torch.int64), None)), (y, (torch.zeros(2, dtype=torch.int64), None))
    assert figures((nested, other), axis=None).sqnr_db == pytest.approx(sqnr(x, y), abs=1e-9)


def test_a_common_infinity_is_no_noise_and_a_nan_is_no_number():
    x, y = noisy(3, 4)
    x[0, 0] = y[0, 0] = math.inf
    assert math.isfinite(figures((x, y), axis=None).sqnr_db)
    y[1, 1] = math.nan
    assert math.isnan(figures((x, y), axis=None).sqnr_db)


@pytest.mark.parametrize(
    "actual", [torch.ones(2, 2), (torch.ones(3, 4), torch.ones(1)), None], ids=["shape", "two", "no"]
)
def test_outputs_of_other_shapes_are_not_compared(actual: object):
    seen = figures((torch.ones(3, 4), actual), noisy(3, 4))
    assert (seen.sqnr_db, seen.shift_percent) == (None, None)


def test_of_nothing_nothing_is_said():
    seen = figures()
    assert (seen.sqnr_db, seen.shift_percent) == (None, None)
    assert figures((torch.empty(0, 4), torch.empty(0, 4))).sqnr_db is None
