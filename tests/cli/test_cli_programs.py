"""Files that hold programs, on the command line."""

from pathlib import Path

import pytest
import torch
from command_line import Commands

from mono_quant import Quantizer

NET = "--model cli_models:net"
DATA = "--data cli_models:images"


def test_a_program_is_written_shown_and_checked(tmp_path: Path, monoquant: Commands):
    path = tmp_path / "model.pt2"
    assert monoquant(f"quantize --quiet {NET} {DATA} --output", path).code == 0
    assert Quantizer().load(path)(torch.randn(2, 3, 8, 8)).shape == (2, 4)
    shown = monoquant("inspect", path).out
    assert "conv.weight  int8[6, 3, 3, 3]" in shown
    assert "2 layers quantized" in shown
    statuses = monoquant(f"validate --json {NET} {DATA}", path).json()["validation"]["findings"]
    assert {finding["status"] for finding in statuses} == {"passed"}
    assert "int8-static" in monoquant("recipe", path).out


@pytest.mark.parametrize("arguments", [NET, "--weights weights.safetensors"])
def test_without_a_model_or_data_a_program_is_refused_before_the_work(
    arguments: str, tmp_path: Path, monoquant: Commands
):
    ran = monoquant(f"quantize {arguments} --scheme int8-weight-only --output", tmp_path / "model.pt2")
    assert ran.code != 0
    assert "made by running the model on a batch: give --model and --data" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_program_is_an_error_in_a_line(tmp_path: Path, monoquant: Commands):
    path = tmp_path / "model.pt2"
    path.write_bytes(b"something else")
    ran = monoquant("inspect", path)
    assert ran.code != 0
    assert "cannot be read as a .pt2 file" in ran.err
