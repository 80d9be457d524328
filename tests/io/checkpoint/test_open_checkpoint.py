"""Opening every kind of checkpoint: names, dtypes and shapes first, tensors when they are asked for."""

import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from raw_checkpoints import entry, safetensors_bytes
from safetensors.torch import save_file
from torch import Tensor, nn

from mono_quant import save_model
from mono_quant.core.tensors import same_bits
from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint import TensorInfo, open_checkpoint, write_checkpoint

STATE = {
    "layer.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "layer.bias": torch.ones(3, dtype=torch.bfloat16),
    "steps": torch.tensor(7),
    "nothing": torch.empty(0, 5, dtype=torch.int8),
}
KINDS = ("state_dict", "safetensors", "sharded", "pt", "pth", "bin", "save_pytorch", "folder", "folder of shards")


def stored(kind: str, folder: Path) -> str | Path | dict[str, Tensor]:
    """`STATE` as something to open."""
    path = folder / f"m.{kind}"
    match kind:
        case "state_dict":
            return STATE
        case "pt" | "pth" | "bin":
            torch.save(STATE, path)
        case "save_pytorch":
            path = folder / "m.pt"
            save_model(STATE, path)
        case "safetensors" | "folder":
            path = folder / "m.safetensors"
            save_file(STATE, path)
            return folder if kind == "folder" else str(path)
        case _:
            infos = {name: TensorInfo.of(tensor) for name, tensor in STATE.items()}
            path = write_checkpoint(folder / "m.safetensors", infos, STATE.items(), {}, max_shard_bytes=60)
            assert len(list(folder.iterdir())) > 2
            return folder if kind == "folder of shards" else path
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_tensors(tmp_path: Path, kind: str):
    with open_checkpoint(stored(kind, tmp_path)) as checkpoint:
        assert {*checkpoint} == {*STATE}
        assert len(checkpoint) == len(STATE)
        assert "layer.weight" in checkpoint
        assert "layer" not in checkpoint
        for name, tensor in STATE.items():
            assert checkpoint.infos[name] == TensorInfo(tensor.dtype, tensor.shape)
            assert checkpoint.infos[name].nbytes == tensor.nbytes
            assert same_bits(checkpoint.read(name), tensor)


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_is_not_there_is_an_error_that_says_so(tmp_path: Path, kind: str):
    with (
        open_checkpoint(stored(kind, tmp_path)) as checkpoint,
        pytest.raises(ArtifactError, match=r"no tensor 'lay\.w"),
    ):
        checkpoint.read("lay.weight")


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_read_outlives_the_checkpoint_and_nothing_can_be_read_after_it(tmp_path: Path, kind: str):
    with open_checkpoint(stored(kind, tmp_path)) as checkpoint:
        weight = checkpoint.read("layer.weight")
    assert same_bits(weight, STATE["layer.weight"])
    with pytest.raises(ArtifactError, match="is closed"):
        checkpoint.read("layer.weight")


@pytest.mark.parametrize("kind", ["safetensors", "sharded"])
def test_an_open_checkpoint_is_not_harmed_by_a_new_one_in_its_place(tmp_path: Path, kind: str):
    with open_checkpoint(stored(kind, tmp_path)) as checkpoint:
        for path in tmp_path.glob("*.safetensors"):
            save_file({"other": torch.zeros(3)}, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
        assert same_bits(checkpoint.read("layer.weight"), STATE["layer.weight"])


def test_opening_reads_no_tensor_data(tmp_path: Path):
    path, size = tmp_path / "m.safetensors", 2**40
    header = safetensors_bytes({"x": entry("I8", (2**20, 2**20), 0, size)})
    path.write_bytes(header)
    os.truncate(path, len(header) + size)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.infos["x"] == TensorInfo(torch.int8, (2**20, 2**20))


def test_metadata_are_those_of_the_file_or_those_that_all_shards_have(tmp_path: Path):
    save_file({"x": torch.ones(1)}, tmp_path / "a.safetensors", metadata={"format": "pt", "own": "a"})
    save_file({"y": torch.ones(1)}, tmp_path / "b.safetensors", metadata={"format": "pt", "own": "b"})
    with open_checkpoint(tmp_path / "a.safetensors") as checkpoint:
        assert checkpoint.metadata == {"format": "pt", "own": "a"}
    index = tmp_path / "m.safetensors.index.json"
    index.write_text('{"weight_map": {"y": "b.safetensors", "x": "a.safetensors"}}')
    with open_checkpoint(index) as checkpoint:
        assert checkpoint.metadata == {"format": "pt"}
        assert [*checkpoint] == ["y", "x"]


def test_the_manifest_of_save_pytorch_is_metadata(tmp_path: Path):
    layer = nn.Linear(2, 2)
    save_model({"a": layer.weight, "b": layer.weight}, tmp_path / "m.pt")
    with open_checkpoint(tmp_path / "m.pt") as checkpoint:
        assert [*checkpoint] == ["a"]
        assert checkpoint.metadata == {"mono_quant": '{"ties": {"b": "a"}}'}


@pytest.mark.parametrize("kind", ["state_dict", "pt"])
def test_names_of_one_tensor_are_ties_and_views_of_a_part_are_not(tmp_path: Path, kind: str):
    weight = torch.randn(4, 4)
    empty = torch.empty(0)
    state = {
        "a": weight,
        "b": weight,
        "row": weight[0],
        "flat": weight.flatten(),
        "t": weight.t(),
        "e": empty,
        "f": empty,
    }
    state["c"] = nn.Parameter(weight)
    if kind == "pt":
        torch.save(state, tmp_path / "m.pt")
    with open_checkpoint(state if kind == "state_dict" else tmp_path / "m.pt") as checkpoint:
        assert checkpoint.ties == {"b": "a", "c": "a"}
        assert {*checkpoint} == {*state}
        assert all(same_bits(checkpoint.read(name), tensor) for name, tensor in state.items())


def test_what_is_read_from_a_state_dict_is_the_tensor_itself_without_its_gradient():
    model = nn.Linear(3, 3)
    with open_checkpoint(dict(model.named_parameters())) as checkpoint:
        weight = checkpoint.read("weight")
    assert weight.data_ptr() == model.weight.data_ptr()
    assert type(weight) is Tensor
    assert not weight.requires_grad


def test_a_pt_file_that_is_replaced_while_it_is_open_is_an_error(tmp_path: Path):
    path = tmp_path / "m.pt"
    state = {f"x{i}": torch.zeros(2**25, dtype=torch.int8) for i in range(3)}
    torch.save(state, path)
    with open_checkpoint(path) as checkpoint:
        checkpoint.read("x0")
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
        with pytest.raises(ArtifactError, match=r"m\.pt was replaced while it was read"):
            [checkpoint.read(name) for name in checkpoint]


@pytest.mark.parametrize("key", ["state_dict", "model", "weights"])
def test_a_state_dict_under_a_single_key_is_read(tmp_path: Path, key: str):
    torch.save({key: OrderedDict(STATE)}, tmp_path / "m.pt")
    with open_checkpoint(tmp_path / "m.pt") as checkpoint:
        assert [*checkpoint] == [*STATE]


def test_a_folder_with_an_index_is_that_index_whatever_else_is_in_it(tmp_path: Path):
    stored("sharded", tmp_path)
    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    (tmp_path / ".hidden.safetensors.index.json").write_text("{")
    (tmp_path / "config.json").write_text("{}")
    with open_checkpoint(tmp_path) as checkpoint:
        assert {*checkpoint} == {*STATE}


def test_a_checkpoint_may_be_all_links_as_in_the_cache_of_hugging_face(tmp_path: Path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    stored("sharded", blobs)
    for number, path in enumerate(sorted(blobs.iterdir())):
        blob = path.rename(blobs / f"{number:064x}")
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / blob.name)
    with open_checkpoint(snapshot) as checkpoint:
        assert all(same_bits(checkpoint.read(name), tensor) for name, tensor in STATE.items())
