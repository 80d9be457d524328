from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from exact_affine import HALF_ULP
from float32_values import LARGEST, rows
from hypothesis import given
from torch import Tensor

from mono_quant.core.affine import SMALLEST_SCALE
from mono_quant.core.weights import Saturation, is_pair_safe, quantize_weight

STEP = 1 + Fraction(1, 2**20)
"""How much a scale may grow at once where float32 rounds two codes up exactly at the bound."""

ADVERSARIAL = {
    "zeros": [0.0] * 4,
    "single": [-3.7],
    "single tiny": [1e-38],
    "single huge": [LARGEST],
    "one sign": [0.9, 1.0, 0.95, 0.99],
    "other sign": [-0.9, -1.0, -0.95, -0.99],
    "two large": [1.0, 1.0, 1e-3, -1e-3],
    "two large of opposite sign": [1.0, -1.0, 1e-3, -1e-3],
    "one stands out": [100.0, 0.5, -0.5, 0.1],
    "both signs": [1.0, 1.0, -1.0, -1.0],
    "tie at the bound": [64.5, 63.5],
    "tie below the bound": [-62.5, -65.5],
    "thirds": [64.5 / 3, 63.5 / 3, -64.5 / 3, -63.5 / 3],
    "tiny": [1e-38, 1e-38, -2e-38],
    "subnormal": [1e-44, 1e-45, -1e-45],
    "huge": [LARGEST] * 3,
    "huge of both signs": [LARGEST, LARGEST, -LARGEST, -LARGEST],
    "everything": [LARGEST, 1.0, 1e-38, 0.0, -LARGEST],
}
adversarial = pytest.mark.parametrize("row", ADVERSARIAL.values(), ids=ADVERSARIAL.keys())


def quantize_row(row: list[float], saturation: Saturation = "pair-safe") -> tuple[list[Fraction], list[int], Fraction]:
    """The row as float32 holds it, its codes and its scale."""
    weight = torch.tensor([row])
    codes, scale = quantize_weight(weight, saturation)
    return [Fraction(x) for x in weight[0].tolist()], codes[0].tolist(), Fraction(scale.item())


def pair_sum(row: list[Fraction]) -> Fraction:
    """The largest sum of two elements of one sign, one of them nothing if need be; slowly, from all pairs."""
    padded = [*row, Fraction(0), Fraction(0)]
    pairs = [(a, b) for i, a in enumerate(padded) for b in padded[i + 1 :]]
    return max(abs(max(a, 0) + max(b, 0)) for a, b in pairs + [(-a, -b) for a, b in pairs])


def smallest_safe_scale(row: list[Fraction]) -> Fraction:
    """The smallest scale with all elements within 127 scales and all pairs of one sign within 128."""
    return max(max(abs(x) for x in row) / 127, pair_sum(row) / 128, Fraction(SMALLEST_SCALE))


def check_pair_safe(row: list[float]) -> None:
    _, codes, _ = quantize_row(row)
    assert all(abs(code) <= 127 for code in codes)
    assert pair_sum([Fraction(code) for code in codes]) <= 128


def check_round_trip(row: list[float], saturation: Saturation) -> None:
    exact, codes, scale = quantize_row(row, saturation)
    # Roundings to float32 of numbers of at most 127 scales: of the scale and of the quotient.
    allowed = scale * (Fraction(1, 2) + 2 * 127 * HALF_ULP)
    assert all(abs(x - code * scale) <= allowed for x, code in zip(exact, codes, strict=True))


def check_smallest_scale(row: list[float]) -> None:
    exact, _, scale = quantize_row(row)
    smallest = smallest_safe_scale(exact)
    assert smallest * (1 - HALF_ULP) <= scale <= smallest * (1 + HALF_ULP) ** 2 * STEP


def check_growth(row: list[float]) -> None:
    _, _, scale = quantize_row(row)
    _, _, full = quantize_row(row, "full-range")
    assert full <= scale <= full * 2 * STEP


@given(row=rows())
def test_no_two_codes_of_any_row_overflow_together(row: list[float]):
    check_pair_safe(row)


@adversarial
def test_no_two_codes_of_an_adversarial_row_overflow_together(row: list[float]):
    check_pair_safe(row)


@given(row=rows())
def test_a_pair_safe_weight_is_within_half_a_scale(row: list[float]):
    check_round_trip(row, "pair-safe")


@adversarial
@pytest.mark.parametrize("saturation", ["pair-safe", "full-range"])
def test_an_adversarial_weight_is_within_half_a_scale(row: list[float], saturation: Saturation):
    check_round_trip(row, saturation)


@given(row=rows())
def test_the_scale_is_the_smallest_that_the_rule_allows(row: list[float]):
    check_smallest_scale(row)


@adversarial
def test_the_scale_of_an_adversarial_row_is_the_smallest_that_the_rule_allows(row: list[float]):
    check_smallest_scale(row)


@given(row=rows())
def test_the_rule_at_most_doubles_the_scale(row: list[float]):
    check_growth(row)


@adversarial
def test_the_rule_at_most_doubles_the_scale_of_an_adversarial_row(row: list[float]):
    check_growth(row)


@given(row=rows())
def test_the_full_range_scale_gives_the_largest_weight_the_largest_code(row: list[float]):
    exact, codes, scale = quantize_row(row, "full-range")
    largest = max(abs(x) for x in exact)
    assert abs(scale - max(largest / 127, Fraction(SMALLEST_SCALE))) <= scale * HALF_ULP
    if largest >= 127 * Fraction(SMALLEST_SCALE):
        assert max(map(abs, codes)) == 127


@pytest.mark.parametrize("row", [[100.0, 0.5, -0.5, 0.1], [1.0, -1.0, 0.0], [-7.0], [127.0, 1.0, -127.0, -1.0]])
def test_the_rule_costs_nothing_where_one_weight_of_a_sign_stands_out(row: list[float]):
    assert quantize_row(row) == quantize_row(row, "full-range")


def test_a_row_of_zeros_has_the_smallest_scale_and_zero_codes():
    _, codes, scale = quantize_row([0.0, 0.0])
    assert (codes, scale) == ([0, 0], Fraction(SMALLEST_SCALE))


def test_each_row_is_quantized_alone():
    weight = torch.tensor([row[:1] * 4 if len(row) < 4 else row[:4] for row in ADVERSARIAL.values()])
    codes, scale = quantize_weight(weight)
    alone = [quantize_weight(row[None]) for row in weight]
    assert torch.equal(codes, torch.cat([one for one, _ in alone]))
    assert torch.equal(scale, torch.cat([one for _, one in alone]))


@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 3), (4, 1, 3, 3), (2, 3, 2, 2, 2), (1, 1)])
def test_codes_have_the_shape_of_the_weight_and_scales_one_value_for_each_row(shape: tuple[int, ...]):
    codes, scale = quantize_weight(torch.randn(shape))
    assert (codes.shape, codes.dtype) == (shape, torch.int8)
    assert (scale.shape, scale.dtype) == (shape[:1], torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_weight_of_another_float_type_is_quantized_as_its_float32_values(dtype: torch.dtype):
    weight = torch.randn(8, 16).to(dtype)
    codes, scale = quantize_weight(weight)
    expected_codes, expected_scale = quantize_weight(weight.float())
    assert torch.equal(codes, expected_codes)
    assert torch.equal(scale, expected_scale)


@pytest.mark.parametrize("make", [Tensor.contiguous, lambda w: w.to(memory_format=torch.channels_last)])
def test_the_memory_layout_of_a_weight_does_not_change_its_codes(make: Callable[[Tensor], Tensor]):
    weight = torch.randn(4, 3, 2, 2)
    assert torch.equal(quantize_weight(make(weight))[0], quantize_weight(weight)[0])


def test_a_parameter_keeps_its_values_and_gives_codes_without_gradient():
    weight = torch.nn.Parameter(torch.randn(4, 8))
    before = weight.detach().clone()
    codes, scale = quantize_weight(weight)
    assert torch.equal(weight.detach(), before)
    assert not codes.requires_grad
    assert not scale.requires_grad


def test_many_random_rows_are_safe_and_most_full_range_rows_are_not():
    weight = torch.randn(500, 64)
    assert is_pair_safe(quantize_weight(weight)[0])
    full = quantize_weight(weight, "full-range")[0]
    assert sum(is_pair_safe(row[None]) for row in full) < 250
