import pickle

import pytest
import torch

from mono_quant.core.qtypes import INT8, UINT8, QType, as_qtype
from mono_quant.errors import ConfigurationError


@pytest.mark.parametrize("qtype", [INT8, UINT8])
def test_the_codes_of_a_type_are_all_that_its_storage_holds(qtype: QType):
    storage = torch.iinfo(qtype.storage)
    assert (qtype.qmin, qtype.qmax) == (storage.min, storage.max)


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
    ],
)
def test_a_type_is_known_by_its_name_and_its_torch_dtypes(given: str | torch.dtype | QType, expected: QType):
    assert as_qtype(given) is expected


@pytest.mark.parametrize("given", ["int7", "INT8", "", torch.float32, torch.int32])
def test_another_type_is_refused_and_the_message_says_which_are_known(given: str | torch.dtype):
    with pytest.raises(ConfigurationError, match="'int8' or 'uint8'") as caught:
        as_qtype(given)
    assert repr(given) in str(caught.value)


def test_a_type_survives_pickling():
    assert pickle.loads(pickle.dumps(UINT8)) == UINT8  # noqa: S301 - our own bytes
