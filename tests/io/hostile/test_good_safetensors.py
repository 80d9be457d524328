"""The check in front of the safetensors library lets pass what it should, and gives tensors that kernels can use."""

import json
import struct
from pathlib import Path

import pytest
import torch
from everything import same_bits
from hostile_case import entry
from safetensors.torch import load, save_file

from mono_quant import load_model

ONE = entry([1], [0, 4])


def written(path: Path, text: bytes, data: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"x": ONE}),
        json.dumps({"x": ONE}, indent=3),
        '{"x" : {"data_offsets":[0,4] ,"shape":[1], "dtype":"F32"}}      ',
        json.dumps({"__metadata__": {}, "x": ONE}),
        json.dumps({"x": ONE, "__metadata__": {"format": "pt", "a": 'quoted "twice" \\ {[,]}', "": "ü"}}),
        json.dumps({'ü " \\ {}[],: \n': ONE}),
        json.dumps({"ü": ONE}, ensure_ascii=False),
        json.dumps({"": ONE, "e": entry([0, 2**40], [4, 4])}),
        json.dumps({"n": entry([], [0, 4], "I32")}),
        json.dumps({"n": entry([1] * 64, [0, 4], "I32")}),
    ],
    ids=["plain", "indented", "another order", "empty metadata", "metadata last", "odd name", "not ASCII", "no name",
         "a number", "64 dimensions"],
)  # fmt: skip
def test_a_header_is_read_as_the_library_reads_it(text: str, tmp_path: Path):
    path = written(tmp_path / "model.safetensors", text.encode(), bytes(range(4)))
    expected, state = load(path.read_bytes()), load_model(path)
    assert expected.keys() == state.keys()
    assert all(same_bits(tensor, state[name]) for name, tensor in expected.items())


def test_a_file_without_tensors_is_read(tmp_path: Path):
    assert load_model(written(tmp_path / "model.safetensors", b"{}", b"")) == {}


def test_a_tensor_at_an_odd_address_is_copied_to_an_even_one(tmp_path: Path):
    values = torch.arange(5.0)
    content = {"odd": entry([3], [0, 3], "U8"), "x": entry([5], [3, 23])}
    data = bytes(3) + bytes(values.view(torch.uint8).tolist())
    state = load_model(written(tmp_path / "model.safetensors", json.dumps(content).encode(), data))
    assert torch.equal(state["x"], values)
    assert state["x"].data_ptr() % 4 == 0


@pytest.mark.parametrize("count", [1, 1000])
def test_what_the_library_writes_is_read(count: int, tmp_path: Path):
    state = {f"layer.{i}.weight": torch.full((2, 3), i, dtype=torch.int16) for i in range(count)}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt", "note": "x" * 100_000})
    assert all(torch.equal(tensor, state[name]) for name, tensor in load_model(tmp_path / "model.safetensors").items())
