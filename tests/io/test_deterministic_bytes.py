"""The same input gives the same bytes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mono_quant import QuantizationResult, save_model

SUFFIXES = pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
SAVE_IN_ANOTHER_PROCESS = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
import torch
from everything import Everything, inputs
from mono_quant import Quantizer
torch.manual_seed(0)
result = Quantizer(show_progress=False).quantize(Everything(), inputs())
for path in sys.argv[1:]:
    result.save(path)
"""


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
    paths = [[tmp_path / f"{process}{suffix}" for suffix in (".safetensors", ".pt")] for process in "ab"]
    environments = [os.environ | {"PYTHONHASHSEED": seed} for seed in ("1", "2")]
    processes = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-W", "error", "-c", SAVE_IN_ANOTHER_PROCESS, *map(str, these)], env=environment
        )
        for these, environment in zip(paths, environments, strict=True)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    for first, second in zip(*paths, strict=True):
        assert sha256(first) == sha256(second)


def test_the_order_of_a_state_dict_does_not_change_the_bytes_of_a_safetensors_file(tmp_path: Path):
    state = {name: torch.full((3,), float(number)) for number, name in enumerate("abc")}
    save_model(state, tmp_path / "a.safetensors")
    save_model(dict(reversed(state.items())), tmp_path / "b.safetensors")
    assert sha256(tmp_path / "a.safetensors") == sha256(tmp_path / "b.safetensors")
