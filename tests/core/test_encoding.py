import math
from fractions import Fraction

import pytest
import torch
from exact_weights import as_float32, as_half, elements, exact_group_scale, exact_stored_code, group_of, numbers_of
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import Tensor
from weight_cases import LARGEST, encoded_cases, specs

from mono_quant.core.affine import SMALLEST_SCALE
from mono_quant.core.encoding import channels_of, decode, decode_channels, encode
from mono_quant.core.granularity import PerChannel, PerGroup, PerTensor
from mono_quant.core.tensor_spec import WeightSpec

INTEGERS = tuple(f"int{bits}" for bits in range(2, 9))
HALVES = ("float16", "bfloat16")
ROUNDING = Fraction(1, 2**24)
"""What one rounding to float32 changes at most, relative to a normal number."""

Case = tuple[Tensor, WeightSpec]


def spec_of(
    dtype: str, shape: tuple[int, ...], granularity: object = PerChannel(0), *, symmetric: bool = True
) -> WeightSpec:
    return WeightSpec(dtype=dtype, symmetric=symmetric, granularity=granularity, shape=shape)


def codes_by_element(stored: dict[str, Tensor], spec: WeightSpec) -> dict[tuple[int, ...], float]:
    """Read without the code under test: packed rows as big integers, others where they are."""
    codes = stored[""]
    if not spec.dtype.is_packed:
        return {index: codes[index].item() for index, _, _ in elements(spec)}
    rows = [int.from_bytes(bytes(row), "little") for row in codes.tolist()]
    bits, lowest = spec.dtype.bits, -(2 ** (spec.dtype.bits - 1))
    return {
        index: ((rows[channel] >> (place * bits)) & (2**bits - 1)) + lowest for index, channel, place in elements(spec)
    }


def qparams_of(stored: dict[str, Tensor], group: tuple[int, ...]) -> tuple[float, int]:
    zero_point = stored.get("_zero_point")
    return stored["_scale"][group].item(), 0 if zero_point is None else int(zero_point[group])


@given(encoded_cases())
def test_scales_are_the_exact_ones_rounded(case: Case):
    weight, spec = case
    groups: dict[tuple[int, ...], list[float]] = {}
    for index, channel, place in elements(spec):
        groups.setdefault(group_of(spec, channel, place), []).append(weight[index].item())
    stored = encode(weight, spec)
    assert len(groups) == stored["_scale"].numel()
    for group, numbers in groups.items():
        scale, exact = Fraction(stored["_scale"][group].item()), exact_group_scale(numbers, spec)
        # rounded to float64 twice, of a difference and a quotient, and to float32
        assert abs(scale - max(exact, Fraction(SMALLEST_SCALE))) <= scale * (ROUNDING + Fraction(2, 2**53))


@given(encoded_cases())
def test_codes_are_those_of_python_numbers(case: Case):
    weight, spec = case
    stored = encode(weight, spec)
    codes = codes_by_element(stored, spec)
    for index, channel, place in elements(spec):
        qparams = qparams_of(stored, group_of(spec, channel, place))
        assert codes[index] == exact_stored_code(weight[index].item(), *qparams, spec)


@given(encoded_cases())
def test_decoding_is_code_minus_zero_point_times_scale(case: Case):
    weight, spec = case
    stored = encode(weight, spec)
    codes, decoded = codes_by_element(stored, spec), decode(stored, spec)
    assert (decoded.shape, decoded.dtype, decoded.is_contiguous()) == (spec.shape, torch.float32, True)
    for index, channel, place in elements(spec):
        scale, zero_point = qparams_of(stored, group_of(spec, channel, place))
        assert decoded[index].item() == as_float32((codes[index] - zero_point) * scale)


@given(encoded_cases(INTEGERS))
@example((torch.tensor([[LARGEST, -LARGEST]]), spec_of("int2", (1, 2), symmetric=False)))
@example((torch.tensor([[0.5, 1.5, 127.0]]), spec_of("int8", (1, 3))))
def test_integers_are_at_most_half_a_scale_away(case: Case):
    weight, spec = case
    stored = encode(weight, spec)
    decoded = decode(stored, spec)
    for index, channel, place in elements(spec):
        scale, _ = qparams_of(stored, group_of(spec, channel, place))
        # Three roundings to float32 of numbers of at most 256 scales: of the scale, the quotient and the product.
        allowed = Fraction(scale) * (Fraction(1, 2) + 3 * 256 * ROUNDING)
        assert abs(Fraction(decoded[index].item()) - Fraction(weight[index].item())) <= allowed


@given(encoded_cases(("float8_e4m3",)))
def test_float8_is_at_most_half_of_its_last_bit_away(case: Case):
    weight, spec = case
    stored = encode(weight, spec)
    decoded = decode(stored, spec)
    for index, channel, place in elements(spec):
        scale, x = Fraction(qparams_of(stored, group_of(spec, channel, place))[0]), Fraction(weight[index].item())
        # half of 2^-3 relative to a normal number of theirs, half of 2^-9 below; and the roundings to float32
        allowed = max(abs(x) / 16, scale / 2**10) + 3 * ROUNDING * (abs(x) + scale / 2**9)
        assert abs(Fraction(decoded[index].item()) - x) <= allowed


@given(encoded_cases())
def test_zero_is_exact(case: Case):
    weight, spec = case
    assume(weight.numel() > 1)
    weight.view(-1)[0] = 0.0
    decoded = decode(encode(weight, spec), spec)
    assert (decoded[weight == 0] == 0).all()


@given(specs((*INTEGERS, "float8_e4m3", *HALVES), smallest=0))
def test_what_is_stored_is_laid_out_as_the_spec_says(spec: WeightSpec):
    stored = encode(torch.randn(spec.shape), spec)
    assert {suffix: (tensor.dtype, tuple(tensor.shape)) for suffix, tensor in stored.items()} == spec.layout
    assert all(tensor.is_contiguous() for tensor in stored.values())
    assert spec.nbytes == sum(tensor.nbytes for tensor in stored.values())
    assert spec.nbytes == sum(tensor.untyped_storage().nbytes() for tensor in stored.values())
    assert decode(stored, spec).shape == spec.shape


@given(specs(smallest=0))
def test_scales_are_finite_and_positive_also_where_no_number_decides_them(spec: WeightSpec):
    scale = encode(torch.zeros(spec.shape), spec)["_scale"]
    assert (scale == SMALLEST_SCALE).all()


@given(encoded_cases())
def test_a_weight_of_its_own_decoded_numbers_has_the_same_codes_where_its_ends_have_the_last_codes(case: Case):
    weight, spec = case
    stored = encode(weight, spec)
    again = encode(decode(stored, spec), spec)
    codes, codes_again = codes_by_element(stored, spec), codes_by_element(again, spec)
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for index, channel, place in elements(spec):
        groups.setdefault(group_of(spec, channel, place), []).append(index)
    for group, indices in groups.items():
        if has_the_last_codes([codes[index] for index in indices], qparams_of(stored, group), spec):
            assert [codes_again[index] for index in indices] == [codes[index] for index in indices]


def has_the_last_codes(codes: list[float], qparams: tuple[float, int], spec: WeightSpec) -> bool:
    """Whether the range of the decoded numbers is again the range that the codes were made for."""
    scale, zero_point = qparams
    if spec.dtype.is_float:
        return max(map(abs, codes)) == 448 or scale == SMALLEST_SCALE
    largest = 2 ** (spec.dtype.bits - 1) - 1
    if spec.symmetric:
        return max(map(abs, codes)) == largest or scale == SMALLEST_SCALE
    return max(*codes, zero_point) - min(*codes, zero_point) == 2**spec.dtype.bits - 1


@given(encoded_cases(), st.data())
def test_some_channels_are_those_of_the_whole_weight(case: Case, data: st.DataObject):
    weight, spec = case
    stored = encode(weight, spec)
    whole = channels_of(decode(stored, spec), spec)
    indices = data.draw(st.lists(st.integers(0, spec.channels - 1), max_size=6))
    start, stop = sorted((data.draw(st.integers(0, spec.channels)), data.draw(st.integers(0, spec.channels))))
    for dtype in (torch.int32, torch.int64):
        assert torch.equal(decode_channels(stored, spec, torch.tensor(indices, dtype=dtype)), whole[indices])
    assert torch.equal(decode_channels(stored, spec, slice(start, stop)), whole[start:stop])
    assert torch.equal(decode_channels(stored, spec), whole)


@pytest.mark.parametrize("dtype", ["int8", "int4", "float8_e4m3", "float16"])
@pytest.mark.parametrize("index", [-1, 3, 2**40])
def test_a_channel_that_is_not_there_is_an_error(dtype: str, index: int):
    spec = spec_of(dtype, (3, 4))
    stored = encode(torch.randn(3, 4), spec)
    with pytest.raises(IndexError):
        decode_channels(stored, spec, torch.tensor([0, index]))


@given(encoded_cases())
def test_decoded_at_once_it_is_the_same(case: Case):
    weight, spec = case
    stored = encode(weight, spec)
    assert torch.equal(decode(stored, spec, at_once=True), decode(stored, spec))


@pytest.mark.parametrize("dtype", ["int8", "int4", "int3", "float8_e4m3"])
@pytest.mark.parametrize(
    "granularity", [PerTensor(), PerChannel(0), PerChannel(1), PerGroup(100), PerGroup(64, 1)], ids=str
)
def test_a_weight_of_many_blocks_is_stored_as_its_channels_one_by_one(dtype: str, granularity: object):
    weight = torch.randn(700, 900) * torch.logspace(-3, 3, 900)
    weight[3, 5] = 9e5
    spec = spec_of(dtype, (700, 900), granularity, symmetric=dtype.startswith("float"))
    stored = encode(weight, spec)
    rows = channels_of(weight, spec)
    ends = (rows.min().item(), rows.max().item())
    for channel in (0, 3, 374, 699):
        row = rows[channel]
        if isinstance(granularity, PerTensor):  # the two ends of all of it make the same scale
            row = torch.cat([row, torch.tensor(ends)])
        alone = spec_of(
            dtype,
            (1, row.numel()),
            PerGroup(granularity.size) if isinstance(granularity, PerGroup) else PerChannel(0),
            symmetric=spec.symmetric,
        )
        assert torch.equal(
            decode(stored, spec).movedim(spec.axis, 0)[channel],
            decode(encode(row[None], alone), alone)[0][: rows.shape[1]],
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("stored_as", [*INTEGERS, "float8_e4m3", *HALVES])
def test_a_weight_of_another_float_dtype_is_stored_as_its_float32_numbers(dtype: torch.dtype, stored_as: str):
    weight = torch.randn(5, 7).to(dtype)
    spec = spec_of(stored_as, (5, 7), PerTensor() if stored_as in HALVES else PerGroup(3))
    stored, expected = encode(weight, spec), encode(weight.float(), spec)
    assert all(torch.equal(stored[suffix], expected[suffix]) for suffix in expected)


@pytest.mark.parametrize("dtype", HALVES)
@given(numbers=st.lists(st.floats(-60000, 60000, width=32), min_size=1, max_size=9))
def test_half_precision_is_the_nearest_number(dtype: str, numbers: list[float]):
    spec = spec_of(dtype, (len(numbers),), PerTensor())
    stored = encode(torch.tensor(numbers), spec)
    expected = [as_half(x, dtype) for x in numbers]
    assert list(stored) == [""]
    assert numbers_of(stored[""]) == numbers_of(decode(stored, spec)) == expected


@pytest.mark.parametrize("dtype", ["int8", "int4", "float8_e4m3", "float16"])
def test_what_is_stored_shares_no_memory_with_the_weight(dtype: str):
    weight = torch.ones(4, 4, dtype=torch.float16)
    spec = spec_of(dtype, (4, 4))
    stored = encode(weight, spec)
    before = decode(stored, spec)
    weight.zero_()
    assert torch.equal(decode(stored, spec), before)


@pytest.mark.parametrize("dtype", ["int8", "int4", "float8_e4m3", "bfloat16"])
def test_a_weight_that_is_not_contiguous_is_stored_like_one_that_is(dtype: str):
    weight = torch.randn(6, 8, 3).permute(2, 0, 1)[:, ::2]
    spec = spec_of(dtype, tuple(weight.shape), PerTensor() if dtype == "bfloat16" else PerChannel(1))
    stored, expected = encode(weight, spec), encode(weight.contiguous(), spec)
    assert all(torch.equal(stored[suffix], expected[suffix]) for suffix in expected)


@pytest.mark.parametrize("default", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dtype", ["int8", "int4", "float8_e4m3"])
def test_the_default_dtype_of_the_process_does_not_matter(default: torch.dtype, dtype: str):
    weight = torch.randn(3, 5)
    spec = spec_of(dtype, (3, 5), PerGroup(2))
    expected = encode(weight, spec)
    torch.set_default_dtype(default)
    try:
        stored = encode(weight, spec)
        decoded = decode(stored, spec)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(stored[s], expected[s]) and stored[s].dtype == expected[s].dtype for s in expected)
    assert torch.equal(decoded, decode(expected, spec))


@pytest.mark.parametrize("bits", range(2, 9))
def test_a_symmetric_range_does_not_use_the_lowest_code(bits: int):
    spec = spec_of(f"int{bits}", (1, 4))
    codes = codes_by_element(encode(torch.tensor([[-1.0, 1.0, 0.5, -0.5]]), spec), spec)
    largest = 2 ** (bits - 1) - 1
    assert (min(codes.values()), max(codes.values())) == (-largest, largest)


@pytest.mark.parametrize("bits", range(2, 9))
def test_an_asymmetric_range_uses_every_code(bits: int):
    spec = spec_of(f"int{bits}", (1, 2**bits), symmetric=False)
    codes = codes_by_element(encode(torch.arange(2.0**bits)[None] - 1, spec), spec)
    assert sorted(codes.values()) == list(range(-(2 ** (bits - 1)), 2 ** (bits - 1)))


def test_a_group_that_is_larger_than_a_channel_costs_no_more_than_the_channel():
    spec = spec_of("int4", (2, 3), PerGroup(2**40))
    stored = encode(torch.randn(2, 3), spec)
    assert stored["_scale"].shape == (2, 1)
    assert torch.equal(decode(stored, spec), decode(encode(decode(stored, spec), spec), spec))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_groups_are_neighbours_within_a_channel(axis: int):
    weight = torch.ones(4, 6)
    spec = spec_of("int8", (4, 6), PerGroup(2, axis))
    rows = weight.movedim(axis, 0)
    rows[1, 2] = 100.0
    scale = encode(weight, spec)["_scale"]
    assert (scale > 0.5).nonzero().tolist() == [[1, 1]]
    assert math.prod(scale.shape) * 2 == weight.numel()
