"""The check in front of ``torch.load`` lets pass what it should: all plain tensors that torch saves, now and before."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from everything import same_bits
from torch import Tensor, nn

from mono_quant import load_model
from mono_quant.io.plain_file import read_plain

OLD_DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip
NEW_DTYPES = [
    torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu,
]  # fmt: skip
"""Those that the old format has not."""
FORMATS = pytest.mark.parametrize("kind", ["zip", "before 1.6"])


def many(dtypes: list[torch.dtype]) -> dict[str, Tensor]:
    base = torch.arange(24.0).reshape(2, 3, 4)
    state = {str(dtype): torch.ones(3, 2).to(dtype) for dtype in dtypes}
    state |= {"base": base, "view": base[1, 1:], "transposed": base.permute(2, 0, 1), "last": base[1, 2, 3]}
    state |= {"empty": torch.empty(0, 3), "none": torch.empty(0), "number": torch.tensor(3), "same": state["base"]}
    return state | {"weight": nn.Parameter(torch.ones(2)), "frozen": nn.Parameter(torch.ones(2), requires_grad=False)}


@FORMATS
def test_every_dtype_and_layout_of_memory_is_read_as_torch_reads_it(kind: str, tmp_path: Path):
    path = tmp_path / "weights.pt"
    dtypes = [*OLD_DTYPES, *(NEW_DTYPES if kind == "zip" else ())]
    torch.save(many(dtypes), path, _use_new_zipfile_serialization=kind == "zip")
    expected, state = torch.load(path, weights_only=True), load_model(path)
    assert list(expected) == list(state)
    for name, tensor in expected.items():
        assert same_bits(tensor, state[name]), name
        assert tensor.stride() == state[name].stride()
        assert tensor.requires_grad == state[name].requires_grad


@FORMATS
def test_the_state_of_a_module_is_read_with_its_versions_beside_it(kind: str, tmp_path: Path):
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.LSTM(3, 4, 2))
    torch.save(model.state_dict(), tmp_path / "weights.pth", _use_new_zipfile_serialization=kind == "zip")
    other = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.LSTM(3, 4, 2))
    other.load_state_dict(load_model(tmp_path / "weights.pth"))
    assert all(same_bits(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        OrderedDict(),
        [torch.ones(2), [3, -1, 70_000, 2**40, 2.5, "text", "ü", None, True, False, ()]],
        (1, (2, 3), (4, 5, 6)),
    ],
    ids=["nothing", "a list of nothing", "ordered", "lists", "tuples"],
)
def test_lists_and_numbers_are_read_where_they_are_asked_for(content: object, tmp_path: Path):
    torch.save(content, tmp_path / "data.pt")
    assert str(read_plain(tmp_path / "data.pt")) == str(content)


def test_a_dictionary_of_a_thousand_names_takes_the_long_forms_of_the_opcodes(tmp_path: Path):
    state = {f"layer.{i}": torch.full((1,), i) for i in range(1000)}
    torch.save(state, tmp_path / "data.pt")
    assert [int(tensor) for tensor in load_model(tmp_path / "data.pt").values()] == list(range(1000))
