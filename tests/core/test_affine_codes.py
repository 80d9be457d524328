import math
from fractions import Fraction

import pytest
import torch
from exact_affine import HALF_ULP, exact_code, exact_value
from float32_values import finite, values
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mono_quant.core.affine import choose_qparams, dequantize, quantize
from mono_quant.core.qtypes import INT8, UINT8, QType

qtypes = st.sampled_from((INT8, UINT8))
EXTREMES = [
    [0.0],
    [1e-38, -1e-38],
    [1e-45],
    [3e38, -3e38],
    [3e38],
    [-3e38],
    [3e38, 1e-38],
    [5.0] * 4,
    [-5.0] * 4,
    [1.0, 2.0, 3.0],
    [-1.0, -2.0, -3.0],
]


def qparams(numbers: list[float], qtype: QType, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    x = torch.tensor(numbers)
    return choose_qparams(x.min(), x.max(), qtype, symmetric=symmetric)


def check_round_trip(numbers: list[float], qtype: QType, *, symmetric: bool) -> None:
    scale, zero_point = qparams(numbers, qtype, symmetric=symmetric)
    x = torch.tensor(numbers)
    back = dequantize(quantize(x, scale, zero_point, qtype), scale, zero_point)
    # Three roundings to float32 of numbers of at most 256 scales: of the scale, the quotient and the product.
    allowed = Fraction(scale.item()) * (Fraction(1, 2) + 3 * 256 * HALF_ULP)
    assert all(abs(Fraction(a) - Fraction(b)) <= allowed for a, b in zip(x.tolist(), back.tolist(), strict=True))


@given(numbers=values(), qtype=qtypes, symmetric=st.booleans())
def test_a_round_trip_moves_nothing_by_more_than_half_a_scale(numbers: list[float], qtype: QType, symmetric: bool):  # noqa: FBT001
    check_round_trip(numbers, qtype, symmetric=symmetric)


@pytest.mark.parametrize("numbers", EXTREMES, ids=str)
@pytest.mark.parametrize("qtype", [INT8, UINT8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_round_trip_holds_for_extreme_ranges(numbers: list[float], qtype: QType, symmetric: bool):  # noqa: FBT001
    check_round_trip(numbers, qtype, symmetric=symmetric)


@given(numbers=values(), qtype=qtypes, symmetric=st.booleans())
def test_zero_is_exact(numbers: list[float], qtype: QType, symmetric: bool):  # noqa: FBT001
    scale, zero_point = qparams(numbers, qtype, symmetric=symmetric)
    codes = quantize(torch.tensor([0.0, -0.0]), scale, zero_point, qtype)
    assert codes.tolist() == [int(zero_point)] * 2
    assert dequantize(codes, scale, zero_point).tolist() == [0.0, 0.0]


@given(numbers=values(), qtype=qtypes, symmetric=st.booleans())
def test_every_code_is_the_code_of_its_own_value(numbers: list[float], qtype: QType, symmetric: bool):  # noqa: FBT001
    scale, zero_point = qparams(numbers, qtype, symmetric=symmetric)
    codes = torch.arange(qtype.qmin, qtype.qmax + 1).to(qtype.storage)
    assert torch.equal(quantize(dequantize(codes, scale, zero_point), scale, zero_point, qtype), codes)


@given(numbers=values(), others=values(), qtype=qtypes)
def test_larger_numbers_never_have_smaller_codes(numbers: list[float], others: list[float], qtype: QType):
    scale, zero_point = qparams(numbers, qtype, symmetric=False)
    codes = quantize(torch.tensor(sorted(others)), scale, zero_point, qtype).tolist()
    assert codes == sorted(codes)


@given(x=finite(), numbers=values(), qtype=qtypes)
def test_a_code_is_the_exact_one_but_for_the_rounding_of_the_quotient(x: float, numbers: list[float], qtype: QType):
    scale, zero_point = qparams(numbers, qtype, symmetric=False)
    code = quantize(torch.tensor(x), scale, zero_point, qtype).item()
    slip = 1 + 2 * HALF_ULP  # the rounded quotient lies between the exact ones of these two numbers
    ends = [exact_code(end, scale.item(), int(zero_point), qtype) for end in (Fraction(x) / slip, Fraction(x) * slip)]
    assert min(ends) <= code <= max(ends)


@given(n=st.integers(-700, 700), exponent=st.integers(-120, 100), qtype=qtypes, zero_point=st.integers(0, 127))
def test_ties_go_to_the_even_code_distance(n: int, exponent: int, qtype: QType, zero_point: int):
    scale = 2.0**exponent
    x = n / 2 * scale
    assert quantize(torch.tensor(x), scale, zero_point, qtype).item() == exact_code(x, scale, zero_point, qtype)


@given(numbers=values(), qtype=qtypes, symmetric=st.booleans())
def test_a_code_stands_for_its_exact_value_rounded_once(numbers: list[float], qtype: QType, symmetric: bool):  # noqa: FBT001
    scale, zero_point = qparams(numbers, qtype, symmetric=symmetric)
    codes = list(range(qtype.qmin, qtype.qmax + 1))
    exact = [float(exact_value(code, scale.item(), int(zero_point))) for code in codes]  # 33 bits: float64 is exact
    assert dequantize(torch.tensor(codes), scale, zero_point).tolist() == torch.tensor(exact).tolist()


@pytest.mark.parametrize("qtype", [INT8, UINT8])
@pytest.mark.parametrize("scale", [2.0**-126, 1e-8, 1.0, 1e30])
def test_what_lies_outside_the_range_takes_the_outermost_code(qtype: QType, scale: float):
    x = torch.tensor([-torch.inf, -3e38, 3e38, torch.inf])
    codes = quantize(x, scale, 100, qtype)
    assert codes.tolist() == [qtype.qmin, qtype.qmin, qtype.qmax, qtype.qmax]


@pytest.mark.parametrize(("qtype", "codes"), [(INT8, [-127, 127]), (UINT8, [1, 255])])
@pytest.mark.parametrize("largest", [1e-30, 0.1, 1.0, 3.0, 3e38])
def test_a_symmetric_range_gives_both_ends_mirrored_codes(qtype: QType, codes: list[int], largest: float):
    scale, zero_point = qparams([-largest, largest], qtype, symmetric=True)
    assert quantize(torch.tensor([-largest, largest]), scale, zero_point, qtype).tolist() == codes


@pytest.mark.parametrize("qtype", [INT8, UINT8])
def test_codes_are_stored_in_the_type_s_storage_and_shape(qtype: QType):
    codes = quantize(torch.zeros(2, 0, 3), 1.0, 0, qtype)
    assert (codes.dtype, codes.shape) == (qtype.storage, (2, 0, 3))


def test_dequantized_values_are_float32():
    assert dequantize(torch.tensor([1], dtype=torch.uint8), 1.0, 255).dtype == torch.float32


def test_a_code_below_the_zero_point_is_a_negative_number():
    assert dequantize(torch.tensor([0], dtype=torch.uint8), 0.5, torch.tensor(255, dtype=torch.uint8)).item() == -127.5


def test_scales_broadcast_over_the_rows():
    x = torch.tensor([[1.0, 2.0], [100.0, 200.0]])
    scale, zero_point = torch.tensor([[1.0], [100.0]]), torch.tensor([[0], [5]])
    codes = quantize(x, scale, zero_point, INT8)
    assert codes.tolist() == [[1, 2], [6, 7]]
    assert torch.equal(dequantize(codes, scale, zero_point), x)


def test_a_number_and_a_tensor_as_scale_give_the_same_codes():
    x = torch.linspace(-40, 40, 10001)
    scale = torch.tensor(0.3)
    assert torch.equal(quantize(x, scale.item(), 3, INT8), quantize(x, scale, torch.tensor(3), INT8))


def test_quantizing_leaves_its_input_as_it_was():
    x = torch.randn(100)
    before = x.clone()
    quantize(x, 0.1, 3, INT8)
    assert torch.equal(x, before)


ANYTHING = st.floats(width=32, allow_nan=False)


@given(
    numbers=st.lists(ANYTHING, max_size=50),
    scale=st.floats(width=32, min_value=2.0**-126, allow_infinity=False),
    qtype=qtypes,
    data=st.data(),
)
def test_the_quick_way_to_a_byte_gives_the_same_codes(
    numbers: list[float], scale: float, qtype: QType, data: st.DataObject
):
    zero_point = data.draw(st.integers(qtype.qmin, qtype.qmax))
    x = torch.tensor([*numbers, -0.0, math.inf, -math.inf])
    one_by_one = x.div(scale).round().add(zero_point).clamp(qtype.qmin, qtype.qmax)
    assert quantize(x, scale, zero_point, qtype).tolist() == one_by_one.tolist()


@pytest.mark.parametrize("qtype", [UINT8, INT8])
def test_the_quick_way_is_right_at_every_tie_and_beside_it(qtype: QType):
    steps = torch.arange(-300, 301, dtype=torch.float32)
    ties = torch.cat([steps, steps + 0.5])
    x = torch.cat([ties, ties.nextafter(torch.tensor(1e9)), ties.nextafter(torch.tensor(-1e9))])
    for zero_point in range(qtype.qmin, qtype.qmax + 1):
        expected = [min(max(round(one) + zero_point, qtype.qmin), qtype.qmax) for one in x.tolist()]
        assert quantize(x, 1.0, zero_point, qtype).tolist() == expected


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_codes_lie_in_memory_as_their_numbers_do(layout: torch.memory_format):
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=layout)
    assert quantize(x, 0.1, 3, UINT8).stride() == x.stride()
