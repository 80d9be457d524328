"""The tensors of a weight against the layout written down bit by bit, in Python's own integers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mono_quant.core.encoding import encode as encode_ours
from mono_quant.core.granularity import PerChannel, PerGroup, PerTensor
from mono_quant.core.packing import pack
from mono_quant.core.qtypes import FLOAT8_E4M3, FLOAT16, INT8, int_type
from mono_quant.plugin_api import WeightSpec

from mono_quant_compressed_tensors.weight import decode, encode, is_packed, layout
from mono_quant_compressed_tensors.words import pack_columns, unpack_columns

BITS = range(2, 9)
SIZES = (1, 2, 3, 5, 7, 8, 9, 31, 32, 33, 63, 64, 65)


def words_by_hand(codes, bits):
    """Signed codes of one row → its signed 32-bit words: one long number, cut up."""
    number = sum((code + 2 ** (bits - 1)) << place * bits for place, code in enumerate(codes))
    count = -(-len(codes) * bits // 32)
    unsigned = [(number >> 32 * word) % 2**32 for word in range(count)]
    return [word - 2**32 if word >= 2**31 else word for word in unsigned]


def codes_by_hand(words, count, bits):
    """The other way round."""
    number = sum((word % 2**32) << 32 * place for place, word in enumerate(words))
    return [(number >> place * bits) % 2**bits - 2 ** (bits - 1) for place in range(count)]


def spec_of(bits, shape, granularity, *, symmetric=False):
    return WeightSpec(dtype=int_type(bits), symmetric=symmetric, granularity=granularity, shape=shape)


def stored_of(spec, codes, scale=None, zero_point=None):
    """Ours, of given signed codes."""
    dtype = spec.dtype
    ours = pack((codes.to(torch.int16) - dtype.qmin).to(torch.uint8), dtype.bits) if dtype.is_packed else codes
    shape = spec.layout["_scale"][1]
    scale = torch.rand(shape) + 0.5 if scale is None else scale
    stored = {"": ours, "_scale": scale}
    if not spec.symmetric:
        random = torch.randint(dtype.qmin, dtype.qmax + 1, shape, dtype=torch.int8)
        stored["_zero_point"] = random if zero_point is None else zero_point
    return stored


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("columns", SIZES)
def test_words_are_those_written_by_hand(bits, columns):
    spec = spec_of(bits, (3, columns), PerChannel(0), symmetric=True)
    codes = torch.randint(spec.dtype.qmin, spec.dtype.qmax + 1, spec.shape, dtype=torch.int8)
    codes[1], codes[2] = spec.dtype.qmin, spec.dtype.qmax
    tensors = encode("fc.weight", stored_of(spec, codes), spec, packed=True)
    expected = [words_by_hand(row, bits) for row in codes.tolist()]
    assert tensors["fc.weight_packed"].tolist() == expected
    assert tensors["fc.weight_packed"].dtype == torch.int32
    assert [codes_by_hand(row, columns, bits) for row in expected] == codes.tolist()
    assert tensors["fc.weight_shape"].tolist() == [3, columns]
    assert "fc.weight_zero_point" not in tensors


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", SIZES)
def test_zero_points_are_packed_along_the_rows(bits, rows):
    spec = spec_of(bits, (rows, 24), PerGroup(8, 0))
    zero_point = torch.randint(spec.dtype.qmin, spec.dtype.qmax + 1, (rows, 3), dtype=torch.int8)
    zero_point[:, 0], zero_point[:, 1] = spec.dtype.qmin, spec.dtype.qmax
    codes = torch.zeros(spec.shape, dtype=torch.int8)
    tensors = encode("fc.weight", stored_of(spec, codes, zero_point=zero_point), spec, packed=True)
    columns = tensors["fc.weight_zero_point"].T.tolist()
    assert columns == [words_by_hand(column, bits) for column in zero_point.T.tolist()]


def test_four_bits_as_the_layout_tells_them():
    """Word [r, c] holds in its bits 4k to 4k + 3 the code of column 8c + k, counted from -8."""
    spec = spec_of(4, (1, 16), PerChannel(0), symmetric=True)
    codes = torch.tensor([[-8, -7, -6, -5, -4, -3, -2, -1, 7, 6, 5, 4, 3, 2, 1, 0]], dtype=torch.int8)
    packed = encode("weight", stored_of(spec, codes), spec, packed=True)["weight_packed"]
    assert [hex(word % 2**32) for word in packed[0].tolist()] == ["0x76543210", "0x89abcdef"]


def test_three_bits_cross_words():
    spec = spec_of(3, (1, 32), PerChannel(0), symmetric=True)
    codes = torch.full((1, 32), -4, dtype=torch.int8)
    codes[0, 10] = 3  # bits 30, 31 and 32
    packed = encode("weight", stored_of(spec, codes), spec, packed=True)["weight_packed"]
    assert [word % 2**32 for word in packed[0].tolist()] == [0b11 << 30, 0b1, 0]


GRAINS = {"tensor": PerTensor(), "channel": PerChannel(0), "groups of 8": PerGroup(8, 0), "one group": PerGroup(40, 0)}


@st.composite
def weights(draw):
    """A weight's spec, whether it is packed, and numbers for it."""
    bits, grain = draw(st.sampled_from([*BITS, "float8"])), draw(st.sampled_from([*GRAINS]))
    dtype = FLOAT8_E4M3 if bits == "float8" else int_type(bits)
    columns = draw(st.integers(1, 9)) * 4
    shape = (draw(st.integers(1, 40)), 2 * columns if grain == "groups of 8" else columns + 3)
    symmetric = dtype.is_float or draw(st.booleans())
    spec = WeightSpec(dtype=dtype, symmetric=symmetric, granularity=GRAINS[grain], shape=shape)
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 1000))))
    return spec, dtype.is_packed or (draw(st.booleans()) and not dtype.is_float), numbers**3


@settings(max_examples=200, deadline=None)
@given(weights())
def test_a_weight_comes_back_bit_for_bit(given_weight):
    spec, packed, weight = given_weight
    stored = encode_ours(weight, spec)
    tensors = encode("a.b.weight", stored, spec, packed=packed)
    announced = layout("a.b.weight", spec, packed=packed)
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()} == announced
    assert ("a.b.weight_zero_point" in tensors) == (not spec.symmetric)
    back = decode("a.b.weight", tensors, spec, packed=packed)
    assert set(back) == set(stored)
    for suffix, tensor in stored.items():
        assert back[suffix].dtype == tensor.dtype
        assert back[suffix].shape == tensor.shape
        assert torch.equal(back[suffix].float(), tensor.float())


def test_nothing_that_was_given_is_written_into():
    spec = spec_of(8, (4, 8), PerChannel(0))
    stored = encode_ours(torch.randn(4, 8), spec)
    before = {suffix: tensor.clone() for suffix, tensor in stored.items()}
    tensors = encode("weight", stored, spec, packed=True)
    made = {name: tensor.clone() for name, tensor in tensors.items()}
    decode("weight", tensors, spec, packed=True)
    assert all(torch.equal(before[suffix], tensor) for suffix, tensor in stored.items())
    assert all(torch.equal(made[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("bits", BITS)
def test_columns_come_back(bits):
    codes = torch.randint(0, 2**bits, (13, 3), dtype=torch.uint8)
    assert torch.equal(unpack_columns(pack_columns(codes, bits), 13, bits), codes)


def test_integers_are_packed_where_the_input_stays_float():
    assert is_packed(spec_of(8, (4, 8), PerChannel(0)))
    assert not is_packed(
        WeightSpec(dtype=INT8, symmetric=True, granularity=PerChannel(0), shape=(4, 8)), has_quantized_input=True
    )
    for dtype in (FLOAT8_E4M3, FLOAT16):
        assert not is_packed(WeightSpec(dtype=dtype, symmetric=True, granularity=PerTensor(), shape=(4, 8)))
