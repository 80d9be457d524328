import math
from fractions import Fraction

import pytest
import torch
from float32_values import values
from hypothesis import given
from torch import Tensor

from mono_quant.core.sqnr import energy, ratio_db, sqnr_db, sum_sqnr_db


def exact_db(x: Tensor, approximation: Tensor) -> float:
    """From exact energies, number by number."""
    pairs = [(Fraction(a), Fraction(b)) for a, b in zip(x.tolist(), approximation.tolist(), strict=True)]
    signal, noise = sum(a * a for a, _ in pairs), sum((a - b) ** 2 for a, b in pairs)
    if noise == 0:
        return math.inf
    return 10 * (log10(signal) - log10(noise)) if signal else -math.inf


def log10(x: Fraction) -> float:
    return math.log10(x.numerator) - math.log10(x.denominator)


@given(numbers=values(), noise=values())
def test_sqnr_is_the_ratio_of_the_exact_energies(numbers: list[float], noise: list[float]):
    x = torch.tensor(numbers)
    approximation = torch.tensor((noise * len(numbers))[: len(numbers)])
    # A dozen float64 roundings in each energy; four logarithms of a few hundred, each right to half an ulp of 6e-14.
    assert sqnr_db(x, approximation) == pytest.approx(exact_db(x, approximation), rel=1e-13, abs=2e-12)


@pytest.mark.parametrize(
    ("x", "approximation", "expected"),
    [([10.0], [9.0], 20.0), ([1.0], [0.0], 0.0), ([1.0], [11.0], -20.0), ([6.0, 8.0], [6.0, 7.0], 20.0)],
)
def test_sqnr_of_small_examples(x: list[float], approximation: list[float], expected: float):
    assert sqnr_db(torch.tensor(x).double(), torch.tensor(approximation).double()) == pytest.approx(expected, rel=1e-13)


def test_no_noise_is_infinite():
    assert sqnr_db(torch.ones(3), torch.ones(3)) == math.inf


def test_no_noise_is_infinite_for_zeros_too():
    assert sqnr_db(torch.zeros(3), torch.zeros(3)) == math.inf


def test_empty_tensors_have_no_noise():
    assert sqnr_db(torch.empty(0), torch.empty(0)) == math.inf


def test_noise_without_signal_is_minus_infinite():
    assert sqnr_db(torch.zeros(3), torch.ones(3)) == -math.inf


@pytest.mark.parametrize("scale", [1e-12, 1e-30, 1e-38, 1e-44])
def test_the_smallest_noise_is_not_taken_for_none(scale: float):
    x = torch.tensor([2 * scale, scale])
    assert math.isfinite(sqnr_db(x, torch.tensor([2 * scale, 0.0])))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_sqnr(bad: float):
    clean, dirty = torch.tensor([1.0, 2.0]), torch.tensor([1.0, bad])
    assert math.isnan(sqnr_db(clean, dirty))
    assert math.isnan(sqnr_db(dirty, clean))
    assert math.isnan(sqnr_db(dirty, dirty))


def test_huge_values_do_not_overflow():
    x = torch.full((1000,), 3e38)
    assert sqnr_db(x, x * 0.5) == pytest.approx(10 * math.log10(4), rel=1e-13)


@pytest.mark.parametrize(("signal", "noise"), [(1e-150, 1e150), (1e150, 1e-150)])
def test_energies_of_float64_too_far_apart_to_be_divided_have_a_ratio(signal: float, noise: float):
    x = torch.tensor([signal, 0.0], dtype=torch.float64)
    approximation = torch.tensor([signal, noise], dtype=torch.float64)
    assert sqnr_db(x, approximation) == pytest.approx(20 * math.log10(signal) - 20 * math.log10(noise), rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_float64(dtype: torch.dtype):
    x = torch.full((1000,), 200.0, dtype=dtype)
    approximation = torch.full((1000,), 202.0, dtype=dtype)
    assert sqnr_db(x, approximation) == pytest.approx(40.0, rel=1e-13)


def test_integers_can_be_compared_too():
    assert sqnr_db(torch.tensor([10]), torch.tensor([9], dtype=torch.int8)) == pytest.approx(20.0, rel=1e-13)


def test_several_pairs_are_one_signal():
    x, y = torch.randn(5, 7), torch.randn(3)
    noisy_x, noisy_y = x + 0.1, y - 0.5
    together = sqnr_db(torch.cat([x.flatten(), y]), torch.cat([noisy_x.flatten(), noisy_y]))
    assert sum_sqnr_db([(x, noisy_x), (y, noisy_y)]) == pytest.approx(together, rel=1e-13)


def test_no_pairs_at_all_have_no_noise():
    assert sum_sqnr_db([]) == math.inf


def test_energies_of_known_vectors():
    assert energy(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 1.0])) == (25.0, 9.0)


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(1.0, 1.0, 0.0), (100.0, 1.0, 20.0), (0.0, 0.0, math.inf), (1.0, 0.0, math.inf), (0.0, 1.0, -math.inf)],
)
def test_ratios_of_known_energies(signal: float, noise: float, expected: float):
    assert ratio_db(signal, noise) == expected


def test_gradients_are_not_followed():
    assert sqnr_db(torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)) == math.inf
