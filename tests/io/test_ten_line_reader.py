"""A saved model is plain tensors: ten lines with safetensors and torch alone read it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from small_models import images, quantize
from torch import nn

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
ALONE = 'assert not any("mono_quant" in name for name in sys.modules)'


def test_ten_lines_with_safetensors_and_torch_alone_give_the_float_weights_back(tmp_path: Path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    result = quantize(model, images())
    result.save(tmp_path / "model.safetensors")
    assert len(READER.splitlines()) == 10
    command = [
        sys.executable,
        "-I",
        "-c",
        READER + ALONE,
        tmp_path / "model.safetensors",
        tmp_path / "floats.safetensors",
    ]
    subprocess.run(command, check=True, env=os.environ)  # noqa: S603
    floats = load_file(tmp_path / "floats.safetensors")
    for name in ("0", "2"):
        original, scale = model.get_submodule(name).weight, result.model.get_submodule(name).weight_scale
        error = (floats[f"{name}.weight"].double() - original.double()).abs().flatten(1).amax(1)
        # half a step, and the rounding of two float32 products
        assert bool((error <= scale.double() * (0.5 + 127 * 2**-22)).all())
        assert torch.equal(floats[f"{name}.bias"], original.new_tensor(model.get_submodule(name).bias.tolist()))


def test_the_header_is_read_without_any_library(tmp_path: Path):
    result = quantize(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), images())
    result.save(tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    manifest = json.loads(header["__metadata__"]["mono_quant"])
    assert header["__metadata__"]["format"] == "pt"
    assert header["1.weight"]["dtype"] == "I8"
    assert manifest["layers"]["1"]["weight_shape"] == header["1.weight"]["shape"] == [5, 192]
