"""Writing over a checkpoint in several files: at every moment its index leads to the old or to the new."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mono_quant.io.checkpoint import TensorInfo, open_checkpoint, write_checkpoint
from mono_quant.io.checkpoint.index import ShardIndex, read_index
from mono_quant.io.checkpoint.replacement import Replacement


def write(folder: Path, value: int, layers: int = 3) -> Path:
    infos = {f"{i}.x": TensorInfo(torch.int8, (10,)) for i in range(layers)}
    tensors = ((name, torch.full((10,), value, dtype=torch.int8)) for name in infos)
    return write_checkpoint(folder / "m.safetensors", infos, tensors, {}, max_shard_bytes=10)


def values_in(index: Path) -> list[int]:
    with open_checkpoint(index) as checkpoint:
        return [int(checkpoint.read(name)[0]) for name in checkpoint]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_again_is_the_same_files(tmp_path: Path):
    write(tmp_path, 1)
    before = contents(tmp_path)
    write(tmp_path, 2)
    assert contents(tmp_path) != before
    write(tmp_path, 1)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("old", "new"), [(3, 3), (3, 5), (5, 3)])
def test_shards_of_the_old_are_gone_and_files_of_others_are_not(tmp_path: Path, old: int, new: int):
    write(tmp_path, 1, old)
    others = {"n-00001-of-00003.safetensors", "m-1.safetensors", "config.json", ".m-00001-of-00003.safetensors.x.old"}
    for name in others:
        (tmp_path / name).touch()
    assert values_in(write(tmp_path, 2, new)) == [2] * new
    shards = {f"m-{i:05d}-of-{new:05d}.safetensors" for i in range(1, new + 1)}
    assert {*contents(tmp_path)} == {"m.safetensors.index.json", *shards, *others}


def test_files_that_an_odd_index_names_are_not_removed(tmp_path: Path):
    (tmp_path / "precious.txt").touch()
    (tmp_path / "m.safetensors.index.json").write_text('{"weight_map": {"x": "precious.txt"}}')
    write(tmp_path, 1)
    assert (tmp_path / "precious.txt").exists()


@pytest.mark.parametrize(
    "text", ["", "{", '{"weight_map": {"x": "../y"}}', '{"weight_map": {"x": "m-00001-of-00003.safetensors"}}']
)
def test_an_index_that_leads_to_nothing_is_replaced(tmp_path: Path, text: str):
    (tmp_path / "m.safetensors.index.json").write_text(text)
    assert values_in(write(tmp_path, 1)) == [1, 1, 1]
    assert len(contents(tmp_path)) == 4


def test_the_old_is_read_through_the_index_until_all_of_the_new_stand(tmp_path: Path):
    path = write(tmp_path, 1)
    old = read_index(path)
    path.write_text(json.dumps({"metadata": {"total_size": 30, "of": "others"}, "weight_map": old.weight_map}))
    replacement = Replacement(path, ShardIndex(old.weight_map, {"total_size": 30}))
    replacement.keep_old()
    assert values_in(path) == [1, 1, 1]
    for name, file in old.weight_map.items():
        save_file({name: torch.full((10,), 2, dtype=torch.int8)}, tmp_path / "new")
        (tmp_path / "new").replace(tmp_path / file)
        assert values_in(path) == [1, 1, 1]
    assert read_index(path).metadata == {"total_size": 30, "of": "others"}
    replacement.finish()
    assert values_in(path) == [2, 2, 2]
    assert {*contents(tmp_path)} == {path.name, *old.weight_map.values()}


def test_what_a_killed_run_left_is_read_and_then_replaced(tmp_path: Path):
    path = write(tmp_path, 1)
    shards = read_index(path).weight_map
    Replacement(path, ShardIndex(shards, {})).keep_old()
    (tmp_path / shards["0.x"]).unlink()
    assert values_in(path) == [1, 1, 1]
    assert values_in(write(tmp_path, 2)) == [2, 2, 2]
    assert {*contents(tmp_path)} == {path.name, *shards.values()}
