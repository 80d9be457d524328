"""A saved model is plain tensors: ten lines with safetensors and torch alone read it, sixteen read packed codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_models import images, quantize
from torch import nn

from mono_quant import Quantizer

READER = """\
import json, sys, torch
from safetensors import safe_open
from safetensors.torch import save_file
with safe_open(sys.argv[1], framework="pt") as file:
    manifest = json.loads(file.metadata()["mono_quant"])
    floats = {name: file.get_tensor(name) for name in file.keys()}
for layer in manifest["layers"]:
    codes, scale = floats[f"{layer}.weight"], floats.pop(f"{layer}.weight_scale")
    floats[f"{layer}.weight"] = codes.float() * scale.reshape(-1, *[1] * (codes.ndim - 1))
save_file(floats, sys.argv[2])
"""
PACKED_READER = """\
import json, sys, torch
from safetensors import safe_open
from safetensors.torch import save_file
with safe_open(sys.argv[1], framework="pt") as file:
    manifest = json.loads(file.metadata()["mono_quant"])
    floats = {name: file.get_tensor(name) for name in file.keys()}
for layer, plan in manifest["layers"].items():
    for name, spec in plan["weights"].items():
        packed, scale = floats.pop(f"{layer}.{name}"), floats.pop(f"{layer}.{name}_scale")
        zero_point = floats.pop(f"{layer}.{name}_zero_point", torch.zeros_like(scale, dtype=torch.int8))
        count = torch.Size(spec["shape"][1:]).numel()
        codes = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1)[:, :count].int() - 8
        group = torch.arange(count) // int(spec["granularity"].removeprefix("per-group(").removesuffix(")"))
        floats[f"{layer}.{name}"] = ((codes - zero_point[:, group]) * scale[:, group]).reshape(spec["shape"])
save_file(floats, sys.argv[2])
"""
ALONE = 'assert not any("mono_quant" in name for name in sys.modules)'


def read_alone(reader: str, folder: Path) -> None:
    """Make ``floats.safetensors`` of ``model.safetensors``, in a process that cannot have imported mono_quant."""
    paths = (folder / "model.safetensors", folder / "floats.safetensors")
    subprocess.run([sys.executable, "-I", "-c", reader + ALONE, *paths], check=True, env=os.environ)  # noqa: S603


def test_ten_lines_with_safetensors_and_torch_alone_give_the_float_weights_back(tmp_path: Path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    result = quantize(model, images())
    result.save(tmp_path / "model.safetensors")
    assert len(READER.splitlines()) == 10
    read_alone(READER, tmp_path)
    floats = load_file(tmp_path / "floats.safetensors")
    for name in ("0", "2"):
        original, scale = model.get_submodule(name).weight, result.model.get_submodule(name).weight_scale
        error = (floats[f"{name}.weight"].double() - original.double()).abs().flatten(1).amax(1)
        # half a step, and the rounding of two float32 products
        assert bool((error <= scale.double() * (0.5 + 127 * 2**-22)).all())
        assert torch.equal(floats[f"{name}.bias"], original.new_tensor(model.get_submodule(name).bias.tolist()))


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_few_lines_more_read_packed_codes_in_groups(tmp_path: Path, *, symmetric: bool):
    # Whole groups, a short last one, an odd number of codes in a row, and weights by other names.
    model = nn.Sequential(nn.Embedding(7, 64), nn.Linear(64, 33), nn.GRU(33, 5), nn.Conv1d(3, 4, 3))
    scheme = {"name": "int4-weight-only", "group_size": 16, "misfit": "pad", "symmetric": symmetric}
    result = Quantizer(scheme).quantize(model)
    result.save(tmp_path / "model.safetensors")
    assert len(PACKED_READER.splitlines()) <= 16
    read_alone(PACKED_READER, tmp_path)
    floats = load_file(tmp_path / "floats.safetensors")
    assert set(floats) == set(model.state_dict())
    for name, weight in model.state_dict().items():
        layer, _, parameter = name.partition(".")
        read = getattr(result.model.get_submodule(layer), parameter)
        assert torch.equal(floats[name], read)
        # a step is at most 1/7 of the largest number in a group; half of it is lost, and all of it at a clipped end
        assert bool(((floats[name] - weight).abs() <= weight.abs().max() / 7).all())


def test_the_header_is_read_without_any_library(tmp_path: Path):
    result = quantize(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), images())
    result.save(tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    manifest = json.loads(header["__metadata__"]["mono_quant"])
    assert header["__metadata__"]["format"] == "pt"
    assert header["1.weight"]["dtype"] == "I8"
    assert manifest["layers"]["1"]["weights"]["weight"]["shape"] == header["1.weight"]["shape"] == [5, 192]
