import pickle

import pytest
import torch

from mono_quant.core.qtypes import BFLOAT16, FLOAT8_E4M3, FLOAT16, INT8, UINT8, QType, as_qtype, int_type
from mono_quant.errors import ConfigurationError


@pytest.mark.parametrize("qtype", [INT8, UINT8])
def test_the_codes_of_a_type_are_all_that_its_storage_holds(qtype: QType):
    storage = torch.iinfo(qtype.storage)
    assert (qtype.qmin, qtype.qmax) == (storage.min, storage.max)
    assert not qtype.is_float
    assert not qtype.is_packed


@pytest.mark.parametrize("qtype", [FLOAT16, BFLOAT16, FLOAT8_E4M3])
def test_the_ends_of_a_float_type_are_the_largest_numbers_of_its_storage(qtype: QType):
    storage = torch.finfo(qtype.storage)
    assert (qtype.qmin, qtype.qmax, qtype.bits) == (storage.min, storage.max, storage.bits)
    assert qtype.is_float
    assert not qtype.is_packed


@pytest.mark.parametrize("bits", range(2, 8))
def test_an_integer_of_few_bits_holds_all_that_fits_and_shares_bytes(bits: int):
    qtype = int_type(bits)
    assert (qtype.name, qtype.bits, qtype.storage) == (f"int{bits}", bits, torch.uint8)
    assert (qtype.qmin, qtype.qmax) == (-(2**bits) // 2, 2**bits // 2 - 1)
    assert qtype.is_packed
    assert as_qtype(qtype.name) == qtype


def test_the_integer_of_eight_bits_is_int8():
    assert int_type(8) is INT8


@pytest.mark.parametrize("bits", [1, 9, 0, -4, 4.5, "4", None])
def test_an_integer_of_another_width_is_refused(bits: object):
    with pytest.raises(ConfigurationError, match="2 to 8 bits, got"):
        int_type(bits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("int8", INT8),
        (torch.int8, INT8),
        (torch.qint8, INT8),
        (INT8, INT8),
        ("uint8", UINT8),
        (torch.uint8, UINT8),
        (torch.quint8, UINT8),
        (UINT8, UINT8),
        ("float16", FLOAT16),
        (torch.half, FLOAT16),
        ("bfloat16", BFLOAT16),
        (torch.bfloat16, BFLOAT16),
        ("float8_e4m3", FLOAT8_E4M3),
        ("float8_e4m3fn", FLOAT8_E4M3),
        (torch.float8_e4m3fn, FLOAT8_E4M3),
    ],
)
def test_a_type_is_known_by_its_name_and_its_torch_dtypes(given: str | torch.dtype | QType, expected: QType):
    assert as_qtype(given) is expected


@pytest.mark.parametrize("given", ["int1", "int9", "INT8", "", torch.float32, torch.int32])
def test_another_type_is_refused_and_the_message_says_which_are_known(given: str | torch.dtype):
    with pytest.raises(ConfigurationError, match=r"int2, int3, .*int8, uint8, float16") as caught:
        as_qtype(given)
    assert repr(given) in str(caught.value)


def test_a_type_survives_pickling():
    assert pickle.loads(pickle.dumps(UINT8)) == UINT8  # noqa: S301 - our own bytes
