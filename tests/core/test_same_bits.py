"""What was made fast gives the bits that it gave before, on weights of every kind."""

from collections.abc import Callable

import pytest
import torch
from earlier_weights import decoded, encoded, packed, pair_sum, quantized, unpacked
from float32_values import LARGEST
from hypothesis import given
from torch import Tensor
from weight_cases import encoded_cases

from mono_quant.core.encoding import decode, encode
from mono_quant.core.granularity import PerChannel, PerGroup, PerTensor
from mono_quant.core.packing import pack, unpack
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.core.tensors import same_bits
from mono_quant.core.weights import is_pair_safe, quantize_weight

SHAPES = ((1, 1), (1, 700), (700, 1), (3, 511), (3, 512), (5, 1023), (2, 3000), (7, 3, 3, 3), (40, 24, 5, 5))
GRAINS = (PerTensor(), PerChannel(0), PerChannel(1), PerGroup(16), PerGroup(100, 1), PerGroup(128))
Maker = Callable[[tuple[int, ...]], Tensor]
TYPES = (*(f"int{bits}" for bits in range(2, 9)), "float8_e4m3")


def random(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def steps(shape: tuple[int, ...]) -> Tensor:
    """Half steps of a scale that is 1: every quotient is a tie, and the two largest of many rows are the same."""
    return (random(shape) * 40).round().clamp(-126, 126) + 0.5


def one_of_each_part(shape: tuple[int, ...]) -> Tensor:
    """The largest numbers stand side by side, at the end and where the parts of a long row meet."""
    weight = random(shape).reshape(shape[0], -1)
    for row, line in enumerate(weight):
        line[(row * 31) % len(line)] = 9 - row % 3
        line[(row * 31 + 1) % len(line)] = line[-1] = 9
        line[(row * 31 + 32) % len(line)] = -9
    return weight.reshape(shape)


WEIGHTS = {
    "random": random,
    "zeros": torch.zeros,
    "negative zeros": lambda shape: -torch.zeros(shape),
    "constant": lambda shape: torch.full(shape, -0.3),
    "ties": steps,
    "one sign": lambda shape: -random(shape).abs(),
    "subnormal": lambda shape: random(shape) * 1e-42,
    "huge": lambda shape: random(shape).clamp(-1, 1) * (LARGEST / 2),
    "neighbours": one_of_each_part,
    "a row of zeros": lambda shape: random(shape).index_fill(0, torch.tensor(0), 0.0),
}
of_every_kind = pytest.mark.parametrize("make", WEIGHTS.values(), ids=WEIGHTS.keys())
of_every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@of_every_kind
@of_every_shape
@pytest.mark.parametrize("saturation", ["pair-safe", "full-range"])
def test_codes_and_scales_of_a_weight_are_those_of_before(make: Maker, shape: tuple[int, ...], saturation: str):
    weight = make(shape)
    codes, scale = quantize_weight(weight, saturation)
    expected_codes, expected_scale = quantized(weight, saturation)
    assert same_bits(codes, expected_codes)
    assert same_bits(scale, expected_scale)


@of_every_kind
@of_every_shape
def test_codes_are_found_pair_safe_as_before(make: Maker, shape: tuple[int, ...]):
    for saturation in ("pair-safe", "full-range"):
        codes, _ = quantize_weight(make(shape), saturation)
        assert is_pair_safe(codes) == bool((pair_sum(codes.flatten(1).to(torch.int16)) <= 128).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("layout", [lambda w: w, lambda w: w.t().contiguous().t(), lambda w: w[::2, ::3]])
def test_neither_dtype_nor_layout_changes_a_bit(dtype: torch.dtype, layout: Callable[[Tensor], Tensor]):
    weight = layout(random((300, 1200)).to(dtype))
    for saturation in ("pair-safe", "full-range"):
        assert all(map(same_bits, quantize_weight(weight, saturation), quantized(weight, saturation)))
    for grain in (PerChannel(0), PerChannel(1), PerGroup(64)):
        for name in ("int8", "int4"):
            spec = WeightSpec(dtype=name, symmetric=False, granularity=grain, shape=weight.shape)
            stored, expected = encode(weight, spec), encoded(weight, spec)
            assert all(same_bits(stored[suffix], expected[suffix]) for suffix in spec.layout)


def check_encoding(weight: Tensor, spec: WeightSpec) -> None:
    stored, expected = encode(weight, spec), encoded(weight, spec)
    assert stored.keys() == expected.keys()
    assert all(same_bits(stored[suffix], expected[suffix]) for suffix in stored)
    assert same_bits(decode(stored, spec), decoded(expected, spec))
    assert same_bits(decode(stored, spec, at_once=True), decoded(expected, spec))


@of_every_kind
@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_stored_and_what_it_stands_for_are_those_of_before(make: Maker, dtype: str):
    for shape in ((3, 511), (7, 3, 3, 3), (1, 700), (700, 1)):
        for grain in GRAINS:
            for symmetric in (True,) if dtype == "float8_e4m3" else (True, False):
                check_encoding(make(shape), WeightSpec(
                    dtype=dtype, symmetric=symmetric, granularity=grain, shape=shape
                ))  # fmt: skip


@pytest.mark.parametrize("grain", GRAINS, ids=str)
@pytest.mark.parametrize("dtype", ["int8", "int4", "int3"])
def test_a_weight_of_several_pieces_is_stored_as_before(grain: object, dtype: str):
    for shape in ((600, 1000), (130, 40, 10, 10)):
        check_encoding(random(shape), WeightSpec(dtype=dtype, symmetric=False, granularity=grain, shape=shape))


@given(encoded_cases())
def test_any_weight_is_stored_as_before(case: tuple[Tensor, WeightSpec]):
    check_encoding(*case)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 100, 511])
def test_bytes_of_codes_are_those_of_before(bits: int, count: int):
    for rows in (0, 1, 3):
        codes = torch.randint(0, 2**bits, (rows, count), generator=torch.Generator().manual_seed(bits))
        assert same_bits(pack(codes, bits), packed(codes, bits))
        assert same_bits(unpack(packed(codes, bits), count, bits), unpacked(packed(codes, bits), count, bits))
