import pytest
import torch
from exact_weights import packed_row
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mono_quant.core.packing import pack, packed_width, unpack

EVERY_WIDTH = pytest.mark.parametrize("bits", range(2, 9))


@st.composite
def rows_of_codes(draw: st.DrawFn) -> tuple[list[list[int]], int, int]:
    """Rows of one length, that length, and the bits of a code; extreme codes are as likely as all others."""
    bits, count = draw(st.integers(2, 8)), draw(st.integers(0, 40))
    code = st.one_of(st.integers(0, 2**bits - 1), st.sampled_from([0, 2**bits - 1]))
    return draw(st.lists(st.lists(code, min_size=count, max_size=count), max_size=4)), count, bits


def as_tensor(rows: list[list[int]], count: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.tensor(rows, dtype=dtype).reshape(len(rows), count)


def as_bytes(packed: Tensor) -> list[bytes]:
    assert packed.dtype == torch.uint8
    return [bytes(row) for row in packed.tolist()]


@given(rows_of_codes())
def test_each_row_is_one_big_integer(drawn: tuple[list[list[int]], int, int]):
    rows, count, bits = drawn
    packed = pack(as_tensor(rows, count), bits)
    assert packed.shape == (len(rows), packed_width(count, bits))
    assert as_bytes(packed) == [packed_row(row, bits) for row in rows]


@given(rows_of_codes())
def test_unpacking_gives_the_codes_back(drawn: tuple[list[list[int]], int, int]):
    rows, count, bits = drawn
    packed = torch.tensor([list(packed_row(row, bits)) for row in rows], dtype=torch.uint8)
    unpacked = unpack(packed.reshape(len(rows), packed_width(count, bits)), count, bits)
    assert unpacked.dtype == torch.uint8
    assert unpacked.shape == (len(rows), count)
    assert unpacked.tolist() == rows


@EVERY_WIDTH
@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 63, 64, 65, 1000])
def test_a_row_takes_no_byte_more_than_its_bits(bits: int, count: int):
    width = packed_width(count, bits)
    assert width * 8 - 7 <= count * bits <= width * 8 or count == width == 0


@EVERY_WIDTH
def test_every_single_code_has_its_own_bits(bits: int):
    count = 17
    for place in range(count):
        row = [0] * count
        row[place] = 2**bits - 1
        assert as_bytes(pack(as_tensor([row], count), bits)) == [packed_row(row, bits)]


@EVERY_WIDTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, torch.uint8, torch.int32], ids=str)
def test_codes_may_come_in_any_dtype_that_holds_them(bits: int, dtype: torch.dtype):
    if bits == 8 and dtype == torch.int8:
        bits = 7
    row = [2**bits - 1, 0, 1, 2 ** (bits - 1), 2**bits - 2]
    assert as_bytes(pack(as_tensor([row], 5, dtype), bits)) == [packed_row(row, bits)]


@EVERY_WIDTH
def test_neighbouring_rows_do_not_touch(bits: int):
    ones, zeros = [2**bits - 1] * 5, [0] * 5
    packed = pack(as_tensor([zeros, ones, zeros], 5), bits)
    assert as_bytes(packed) == [packed_row(zeros, bits), packed_row(ones, bits), packed_row(zeros, bits)]


@EVERY_WIDTH
def test_what_is_packed_keeps_no_memory_beside_its_own(bits: int):
    packed = pack(torch.zeros(3, 5, dtype=torch.int64), bits)
    assert packed.is_contiguous()
    assert packed.untyped_storage().nbytes() == 3 * packed_width(5, bits)


@EVERY_WIDTH
def test_some_rows_can_be_unpacked_alone(bits: int):
    codes = torch.randint(0, 2**bits, (6, 11))
    packed = pack(codes, bits)
    assert torch.equal(unpack(packed[1::2], 11, bits), codes[1::2].to(torch.uint8))
    assert torch.equal(unpack(packed.t().contiguous().t(), 11, bits), codes.to(torch.uint8))
