from fractions import Fraction

import pytest
import torch
from exact_affine import HALF_ULP, exact_scale
from float32_values import values
from hypothesis import given
from hypothesis import strategies as st

from mono_quant.core.affine import SMALLEST_SCALE, choose_qparams
from mono_quant.core.qtypes import INT8, UINT8, QType

qtypes = st.sampled_from((INT8, UINT8))


def qparams(low: float, high: float, qtype: QType, *, symmetric: bool = False) -> tuple[float, int]:
    scale, zero_point = choose_qparams(torch.tensor(low), torch.tensor(high), qtype, symmetric=symmetric)
    return scale.item(), int(zero_point)


def test_the_floor_of_the_scale_is_the_smallest_normal_float32():
    assert SMALLEST_SCALE == 2.0**-126


@given(numbers=values(), qtype=qtypes, symmetric=st.booleans())
def test_the_scale_is_the_exact_one_rounded_to_float32(numbers: list[float], qtype: QType, symmetric: bool):  # noqa: FBT001
    scale, _ = qparams(min(numbers), max(numbers), qtype, symmetric=symmetric)
    exact = max(exact_scale(min(numbers), max(numbers), qtype, symmetric=symmetric), Fraction(SMALLEST_SCALE))
    through_float64 = Fraction(1, 2**50)
    assert abs(Fraction(scale) - exact) <= exact * (HALF_ULP + through_float64)


@given(numbers=values(), qtype=qtypes)
def test_the_zero_point_is_the_code_nearest_to_where_zero_lies(numbers: list[float], qtype: QType):
    scale, zero_point = qparams(min(numbers), max(numbers), qtype)
    exact = qtype.qmin - Fraction(min(*numbers, 0.0)) / Fraction(scale)
    clamped = min(max(exact, Fraction(qtype.qmin)), Fraction(qtype.qmax))
    assert abs(zero_point - clamped) <= Fraction(1, 2) + Fraction(1, 2**40)


@given(numbers=values(), qtype=qtypes, symmetric=st.booleans())
def test_the_zero_point_is_a_code(numbers: list[float], qtype: QType, symmetric: bool):  # noqa: FBT001
    _, zero_point = qparams(min(numbers), max(numbers), qtype, symmetric=symmetric)
    assert qtype.qmin <= zero_point <= qtype.qmax


@pytest.mark.parametrize(("qtype", "middle"), [(INT8, 0), (UINT8, 128)])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (2.0, 5.0), (-4.0, -2.0), (0.0, 0.0)])
def test_a_symmetric_zero_point_is_the_middle_code(qtype: QType, middle: int, low: float, high: float):
    assert qparams(low, high, qtype, symmetric=True)[1] == middle


@pytest.mark.parametrize(
    ("low", "high", "qtype", "expected"),
    [
        (0.0, 255.0, UINT8, (1.0, 0)),
        (-255.0, 0.0, UINT8, (1.0, 255)),
        (-128.0, 127.0, INT8, (1.0, 0)),
        (0.0, 255.0, INT8, (1.0, -128)),
        (-255.0, 0.0, INT8, (1.0, 127)),
        (-51.0, 204.0, UINT8, (1.0, 51)),
    ],
)
def test_ranges_as_wide_as_the_codes_have_a_scale_of_one(
    low: float, high: float, qtype: QType, expected: tuple[float, int]
):
    assert qparams(low, high, qtype) == expected


@pytest.mark.parametrize(("low", "high"), [(3.0, 5.0), (5.0, 5.0), (0.0, 5.0)])
def test_a_range_above_zero_is_widened_to_zero(low: float, high: float):
    assert qparams(low, high, UINT8) == qparams(0.0, high, UINT8)


@pytest.mark.parametrize(("low", "high"), [(-5.0, -3.0), (-5.0, -5.0), (-5.0, 0.0)])
def test_a_range_below_zero_is_widened_to_zero(low: float, high: float):
    assert qparams(low, high, UINT8) == qparams(low, 0.0, UINT8)


@pytest.mark.parametrize("low", [0.0, -1e-38, -1e-45])
@pytest.mark.parametrize("high", [0.0, 1e-38, 1e-45])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_range_too_small_for_a_normal_scale_takes_the_smallest(low: float, high: float, symmetric: bool):  # noqa: FBT001
    assert qparams(low, high, INT8, symmetric=symmetric)[0] == SMALLEST_SCALE


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_callers_floor_is_kept(symmetric: bool):  # noqa: FBT001
    scale, _ = choose_qparams(torch.tensor(0.0), torch.tensor(1e-9), INT8, symmetric=symmetric, smallest_scale=2.0**-20)
    assert scale.item() == 2.0**-20


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,)])
def test_qparams_have_the_shape_of_the_range(shape: tuple[int, ...]):
    scale, zero_point = choose_qparams(torch.zeros(shape), torch.ones(shape), INT8)
    assert (scale.shape, zero_point.shape) == (shape, shape)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_qparams_are_float32_and_int32_whatever_the_range_is(dtype: torch.dtype):
    scale, zero_point = choose_qparams(torch.tensor(-1.0, dtype=dtype), torch.tensor(2.0, dtype=dtype), UINT8)
    assert (scale.dtype, zero_point.dtype) == (torch.float32, torch.int32)


def test_a_half_precision_range_loses_nothing_to_half_precision_arithmetic():
    low, high = torch.tensor(-65504.0, dtype=torch.float16), torch.tensor(65504.0, dtype=torch.float16)
    assert choose_qparams(low, high, UINT8)[0].item() == torch.tensor(131008 / 255).item()


def test_each_element_of_a_range_is_treated_alone():
    low, high = torch.tensor([-3e38, 0.0, -1e-38, 2.0]), torch.tensor([3e38, 0.0, 1e-38, 7.0])
    together = choose_qparams(low, high, INT8)
    alone = [choose_qparams(one, other, INT8) for one, other in zip(low, high, strict=True)]
    assert together[0].tolist() == [scale.item() for scale, _ in alone]
    assert together[1].tolist() == [zero_point.item() for _, zero_point in alone]
