"""What both formats promise: every tensor back, bit for bit, and an error for what they cannot hold."""

from pathlib import Path

import pytest
import torch
from everything import same_bits
from torch import Tensor, nn

from mono_quant import QuantizationResult, load_model, save_model
from mono_quant.errors import ArtifactError
from mono_quant.io import load_pytorch, load_safetensors, save_pytorch, save_safetensors

SUFFIXES = pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])


@SUFFIXES
def test_every_tensor_comes_back_bit_for_bit_under_all_its_names(
    result: QuantizationResult, tmp_path: Path, suffix: str
):
    save_model(result.model, tmp_path / f"model{suffix}")
    before, after = result.model.state_dict(), load_model(tmp_path / f"model{suffix}")
    assert before.keys() == after.keys()
    assert all(same_bits(tensor, after[name]) for name, tensor in before.items())


@SUFFIXES
def test_a_view_is_stored_without_the_memory_around_it(tmp_path: Path, suffix: str):
    path = tmp_path / f"view{suffix}"
    save_model({"x": torch.zeros(1_000_000)[:3]}, path)
    assert path.stat().st_size < 10_000
    assert torch.equal(load_model(path)["x"], torch.zeros(3))


@SUFFIXES
def test_tensors_that_overlap_in_part_come_back_apart(tmp_path: Path, suffix: str):
    base = torch.arange(6.0)
    state = {"all": base, "head": base[:2], "tail": base[2:], "transposed": base.reshape(2, 3).t()}
    save_model(state, tmp_path / f"model{suffix}")
    loaded = load_model(tmp_path / f"model{suffix}")
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in state.items())


@SUFFIXES
def test_a_model_that_is_not_quantized_is_stored_too(tmp_path: Path, suffix: str):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    save_model(model, tmp_path / f"model{suffix}")
    state = load_model(tmp_path / f"model{suffix}")
    assert state["1.weight"] is state["0.weight"]
    model.load_state_dict(state)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(2).to_sparse(),
        torch.eye(2).to_mkldnn(),
        torch.empty(2, device="meta"),
    ],
    ids=["sparse", "mkldnn", "meta"],
)
@SUFFIXES
def test_a_tensor_that_a_format_cannot_hold_is_refused_by_name(tmp_path: Path, tensor: Tensor, suffix: str):
    with pytest.raises(ArtifactError, match=r"cannot be written.*'odd'"):
        save_model({"odd": tensor, "x": torch.ones(1)}, tmp_path / f"model{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_a_dtype_that_safetensors_does_not_know_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"cannot be written.*'odd'.*complex128"):
        save_model({"odd": torch.ones(2, dtype=torch.complex128)}, tmp_path / "model.safetensors")


@SUFFIXES
def test_what_is_no_tensor_is_refused_by_name(tmp_path: Path, suffix: str):
    with pytest.raises(ArtifactError, match="'epoch' of the state_dict is a int"):
        save_model({"x": torch.ones(1), "epoch": 3}, tmp_path / f"model{suffix}")


@pytest.mark.parametrize("name", ["model", "model.bin", "model.safetensors.bak"])
def test_a_suffix_that_no_format_has_is_refused_with_those_that_exist(tmp_path: Path, name: str):
    for use in (lambda path: save_model({"x": torch.ones(1)}, path), load_model):
        with pytest.raises(ArtifactError, match=r"\.pt.*\.safetensors"):
            use(tmp_path / name)


def test_a_folder_that_no_format_knows_is_refused(tmp_path: Path):
    for use in (lambda path: save_model({"x": torch.ones(1)}, path), load_model):
        with pytest.raises(ArtifactError, match="is a folder, and no format knows what is in it"):
            use(tmp_path)


def test_a_format_that_is_named_does_not_ask_for_a_suffix(tmp_path: Path):
    state = {"x": torch.arange(3)}
    for save, load in ((save_safetensors, load_safetensors), (save_pytorch, load_pytorch)):
        save(state, tmp_path / "model")
        assert torch.equal(load(tmp_path / "model")["x"], state["x"])


def test_a_bare_state_dict_of_torch_is_read(tmp_path: Path):
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "weights.pt")
    assert load_model(tmp_path / "weights.pt").keys() == {"weight", "bias"}
