"""Files that are damaged, foreign or made to harm: refused, and nothing in them is run."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from everything import Everything
from safetensors.torch import save_file
from torch import Tensor

from mono_quant import QuantizationResult, Quantizer, load_model
from mono_quant.errors import ArtifactError
from mono_quant.io import load_pytorch
from mono_quant.io.pytorch_format import PytorchFormat
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api import Format

SUFFIXES = pytest.mark.parametrize("suffix", [".safetensors", ".pt"])


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("how", ["tensors beside it", "manifest", "alone", "plain pickle"])
def test_a_file_with_code_in_it_is_refused_without_running_it(tmp_path: Path, how: str):
    mark, path = tmp_path / "mark", tmp_path / "evil.pt"
    payload = Payload(mark)
    content = {
        "tensors beside it": {"tensors": {"x": torch.ones(1), "y": payload}, "mono_quant": None},
        "manifest": {"tensors": {"x": torch.ones(1)}, "mono_quant": payload},
        "alone": payload,
    }
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(payload, protocol=2))
    else:
        torch.save(content[how], path)
    for read in (load_model, load_pytorch, lambda p: Quantizer().load(p, Everything)):
        with pytest.raises(ArtifactError, match="cannot be read as a file of plain tensors"):
            read(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(payload))  # noqa: S301 - this is what would have happened
    assert mark.exists()


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"x": 3}, {"tensors": [torch.ones(1)], "mono_quant": None}, {"tensors": {}, "mono_quant": "[1]"}, "text"],
    ids=str,
)
def test_a_torch_file_of_another_shape_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ArtifactError):
        load_model(tmp_path / "other.pt")


@pytest.mark.parametrize("text", ["[1]", "{", "3", '"x"', "[" * 100_000, "{}x"])
def test_a_safetensors_file_whose_manifest_is_no_object_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "odd.safetensors"
    save_safetensors_with(path, text)
    with pytest.raises(ArtifactError, match="manifest is not"):
        load_model(path)


@pytest.mark.parametrize("ties", [{"y": "missing"}, {"y": ["x"]}, {"y": None}, ["y", "x"], "xy"], ids=str)
def test_ties_that_lead_nowhere_are_refused(tmp_path: Path, ties: object):
    path = tmp_path / "odd.safetensors"
    save_safetensors_with(path, json.dumps({"ties": ties}))
    with pytest.raises(ArtifactError, match="ties"):
        load_model(path)


def save_safetensors_with(path: Path, manifest: str) -> None:
    save_file({"x": torch.ones(2)}, path, metadata={"format": "pt", "mono_quant": manifest})


@pytest.mark.parametrize("format", [SafetensorsFormat(), PytorchFormat()], ids=lambda f: type(f).__name__)
def test_a_damaged_file_is_refused_or_reads_as_tensors(
    result: QuantizationResult,
    tmp_path: Path,
    format: Format,  # noqa: A002
):
    suffix = ".safetensors" if isinstance(format, SafetensorsFormat) else ".pt"
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"damaged{suffix}"
    result.save(whole)
    content = whole.read_bytes()
    for length in [*range(0, min(400, len(content)), 7), *range(400, len(content), len(content) // 40)]:
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactError):
            format.load(path)
    for position in range(0, len(content), len(content) // 150):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            artifact = format.load(path)
        except ArtifactError:
            continue
        assert all(isinstance(tensor, Tensor) for tensor in artifact.tensors.values())


@SUFFIXES
def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path, suffix: str):
    with pytest.raises(ArtifactError, match="absent"):
        load_model(tmp_path / f"absent{suffix}")


@SUFFIXES
def test_a_folder_is_no_file(tmp_path: Path, suffix: str):
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(ArtifactError):
        load_model(tmp_path / f"folder{suffix}")
