"""The same input gives the same bytes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from everything import Everything, inputs

from mono_quant import QuantizationResult, Quantizer, save_model

SUFFIXES = pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
IN_ANOTHER_PROCESS = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from pathlib import Path
from test_deterministic_bytes import quantize_and_save
quantize_and_save(Path(sys.argv[1]))
"""


def quantize_and_save(folder: Path) -> None:
    torch.manual_seed(0)
    result = Quantizer(show_progress=False).quantize(Everything(), inputs())
    for suffix in (".safetensors", ".pt"):
        result.save(folder / f"model{suffix}")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@SUFFIXES
def test_the_same_model_gives_the_same_bytes(result: QuantizationResult, tmp_path: Path, suffix: str):
    names = ["a", "another-name", "a"]
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        folder.mkdir()
        result.save(folder / f"{name}{suffix}")
    assert len({sha256(tmp_path / str(i) / f"{name}{suffix}") for i, name in enumerate(names)}) == 1


def test_two_processes_give_the_same_bytes_for_the_same_model_and_data(tmp_path: Path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    quantize_and_save(here)
    command = [sys.executable, "-W", "error", "-c", IN_ANOTHER_PROCESS, there]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "1"})  # noqa: S603
    for suffix in (".safetensors", ".pt"):
        assert sha256(here / f"model{suffix}") == sha256(there / f"model{suffix}")


def test_the_order_of_a_state_dict_does_not_change_the_bytes_of_a_safetensors_file(tmp_path: Path):
    state = {name: torch.full((3,), float(number)) for number, name in enumerate("abc")}
    save_model(state, tmp_path / "a.safetensors")
    save_model(dict(reversed(state.items())), tmp_path / "b.safetensors")
    assert sha256(tmp_path / "a.safetensors") == sha256(tmp_path / "b.safetensors")
