"""Checkpoints that are damaged, lie, or lead elsewhere: an error that names the file and the tensor, at opening."""

import argparse
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from raw_checkpoints import entry, safetensors_bytes, write_index_of
from safetensors.torch import save_file

from mono_quant import load_model, quantize
from mono_quant.checkpoint import dequantize_checkpoint
from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint import open_checkpoint

EIGHT = bytes(8)
FILES = {
    "empty": (b"", "is empty"),
    "shorter than a length": (b"\x01\x02", "cut off"),
    "only a length": (bytes(8), "cannot be read as safetensors"),
    "header longer than the file": (safetensors_bytes({"x": entry()}, EIGHT, length=2**40), "cut off"),
    "header of the largest number": (safetensors_bytes({"x": entry()}, EIGHT, length=2**64 - 1), "cut off"),
    "header one byte too long": (safetensors_bytes({"x": entry()}, length=10_000), "cut off"),
    "data cut off": (safetensors_bytes({"x": entry()}, bytes(7)), "'x' is at bytes .* of 7"),
    "data after the last tensor": (safetensors_bytes({"x": entry()}, bytes(9)), "not fully covered"),
    "header is no JSON": (safetensors_bytes(b'{"x":', EIGHT), "header is damaged"),
    "header is a list": (safetensors_bytes([1], EIGHT), "header is damaged"),
    "header is not UTF-8": (safetensors_bytes(b'{"\xff":1}', EIGHT), "is damaged"),
    "header is nested deep": (safetensors_bytes(b'{"x":' + b"[" * 200_000, EIGHT), "is damaged"),
    "a name twice": (
        safetensors_bytes(b'{"x":%b,"x":%b}' % ((json.dumps(entry()).encode(),) * 2), EIGHT),
        "'x' is there twice",
    ),
    "a key of the metadata twice": (
        safetensors_bytes(b'{"__metadata__":{"a":"1","a":"2"},"x":%b}' % json.dumps(entry()).encode(), EIGHT),
        "'a' is there twice",
    ),
    "metadata that are no text": (
        safetensors_bytes({"__metadata__": {"a": 1}, "x": entry()}, EIGHT),
        "header is damaged",
    ),
    "two tensors that overlap": (
        safetensors_bytes({"x": entry(), "y": entry(begin=4, end=12)}, bytes(12)),
        "invalid offset for tensor `y`",
    ),
    "two tensors at one place": (safetensors_bytes({"x": entry(), "y": entry()}, EIGHT), "invalid offset for tensor"),
    "a hole": (safetensors_bytes({"x": entry(begin=8, end=16)}, bytes(16)), "invalid offset for tensor `x`"),
    "offsets beyond the file": (safetensors_bytes({"x": entry(end=2**62)}, EIGHT), "'x' is at bytes"),
    "offsets backwards": (safetensors_bytes({"x": entry(begin=8, end=0)}, EIGHT), "'x' is at bytes"),
    "offsets below zero": (safetensors_bytes({"x": entry(begin=-8, end=0)}, EIGHT), "'x' is at bytes"),
    "offsets that are fractions": (safetensors_bytes({"x": entry() | {"data_offsets": [0, 8.5]}}, EIGHT), "'x' is at"),
    "one offset": (safetensors_bytes({"x": entry() | {"data_offsets": [8]}}, EIGHT), "cannot be read as safetensors"),
    "no offsets": (safetensors_bytes({"x": {"dtype": "F32", "shape": [2]}}, EIGHT), "'x'"),
    "an entry that is a number": (safetensors_bytes({"x": 3}, EIGHT), "cannot be read as safetensors"),
    "a shape larger than its data": (safetensors_bytes({"x": entry(shape=(2**30,))}, EIGHT), "invalid shape"),
    "a shape whose size overflows": (safetensors_bytes({"x": entry(shape=(2**62, 8))}, EIGHT), "'x'"),
    "a shape below zero": (safetensors_bytes({"x": entry(shape=(-2,))}, EIGHT), "expected usize"),
    "no elements in a shape that torch cannot have": (
        safetensors_bytes({"x": entry(shape=(0, 2**62, 2**62), end=0)}),
        "'x' claims the shape",
    ),
    "a size beyond 64 bits": (safetensors_bytes({"x": entry(shape=(2**63, 0), end=0)}), "'x' claims the shape"),
    "an unknown dtype": (safetensors_bytes({"x": entry("F99")}, EIGHT), "'x' is of dtype 'F99'"),
    "a dtype that torch has not": (safetensors_bytes({"x": entry("F6_E2M3", (4,), 0, 3)}, bytes(3)), "dtype 'F6_E2M3'"),
    "a dtype that is packed": (safetensors_bytes({"x": entry("F4", (2, 4), 0, 4)}, bytes(4)), "'x' is of dtype 'F4'"),
    "a dtype that is a list": (
        safetensors_bytes({"x": entry() | {"dtype": []}}, EIGHT),
        "cannot be read as safetensors",
    ),
    "a web page": (b"<!DOCTYPE html><title>404</title>", "not safetensors"),
    "a pickle": (pickle.dumps({"x": 1}), "not safetensors"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_safetensors_file_is_refused(tmp_path: Path, what: str):
    content, words = FILES[what]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=words) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("what", FILES)
def test_a_shard_is_refused_like_a_file(tmp_path: Path, what: str):
    content, words = FILES[what]
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=words) as caught:
        open_checkpoint(write_index_of(tmp_path, {"x": "bad.safetensors"}))
    assert "bad.safetensors" in str(caught.value)


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    save_file({"x": torch.ones(5), "y": torch.zeros(3, dtype=torch.int8)}, path, metadata={"format": "pt"})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=r"m\.safetensors"):
            open_checkpoint(path)


def test_a_file_that_is_cut_off_while_it_is_open_is_an_error_that_names_the_tensor(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    save_file({"x": torch.ones(500)}, path)
    with open_checkpoint(path) as checkpoint:
        os.truncate(path, path.stat().st_size - 4)
        with pytest.raises(ArtifactError, match=r"m\.safetensors: tensor 'x' cannot be read"):
            checkpoint.read("x")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".safetensors.index.json"])
def test_a_manifest_of_more_values_than_its_file_may_have_is_refused(tmp_path: Path, suffix: str):
    text = json.dumps({"ties": {}, "layers": {}, "more": [[]] * 350_000})
    # Names of one tensor are no reason to believe more of a small file.
    many = torch.ones(1000)
    path = tmp_path / f"m{suffix}"
    if suffix == ".pt":
        torch.save({"tensors": {f"x{i}": many for i in range(10_000)}, "mono_quant": text}, path)
    else:
        save_file({"x": many}, tmp_path / "a.safetensors", metadata={"format": "pt", "mono_quant": text})
        if suffix == ".safetensors":
            (tmp_path / "a.safetensors").rename(path)
        else:
            write_index_of(tmp_path, {"x": "a.safetensors"})
    for read in (quantize, load_model, lambda source: dequantize_checkpoint(source, tmp_path / "f.safetensors")):
        with pytest.raises(
            ArtifactError, match=rf"m\{suffix}: its manifest is not taken: it has more than 3\d\d,"
        ) as caught:
            read(path)
        assert str(path) in str(caught.value)
    assert not (tmp_path / "f.safetensors").exists()


INDEXES = {
    "no JSON": (b"{", "is damaged"),
    "a list": (b"[]", "is damaged: it is not a JSON object"),
    "not UTF-8": (b'{"weight_map": {"\xff": "a.safetensors"}}', "is damaged"),
    "no weight_map": (b"{}", "no 'weight_map'"),
    "a weight_map that is a list": (b'{"weight_map": []}', "no 'weight_map'"),
    "a weight_map with nothing in it": (b'{"weight_map": {}}', "no 'weight_map'"),
    "metadata that are a list": (b'{"metadata": [], "weight_map": {"x": "a.safetensors"}}', "odd 'metadata'"),
    "a tensor twice": (b'{"weight_map": {"x": "a.safetensors", "x": "b.safetensors"}}', "key 'x' occurs twice"),
    "a tensor twice among many": (
        ('{"weight_map": {' + "".join(f'"x{i}": "a", ' for i in range(50_000)) + '"x49999": "b"}}').encode(),
        "key 'x49999' occurs twice",
    ),
    "weight_map twice": (b'{"weight_map": {"x": "a.safetensors"}, "weight_map": {}}', "key 'weight_map' occurs twice"),
    "a number of many digits": (b'{"n": ' + b"9" * 100_000 + b"}", "is damaged"),
    "nested deep": (b'{"weight_map": ' + b"[" * 200_000, "is damaged"),
    "a million values": (b'{"metadata": {"x": [' + b"{}," * 1_000_000 + b"{}]}}", "it has more than 346,875 values"),
    "not finite": (b'{"metadata": {"x": NaN}, "weight_map": {"x": "a.safetensors"}}', "NaN is not a finite number"),
    "empty": (b"", "is empty"),
}


@pytest.mark.parametrize("what", INDEXES)
def test_an_index_is_refused(tmp_path: Path, what: str):
    content, words = INDEXES[what]
    path = tmp_path / "m.safetensors.index.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=words) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "../a.safetensors", "..", ".", "", "/etc/passwd", "sub/a.safetensors", "./a.safetensors", "a.safetensors/",
        "..\\a.safetensors", "C:a.safetensors", "C:\\a.safetensors", "a\0.safetensors", "a\n.safetensors", 3, None,
        ["a.safetensors"],
    ],
)  # fmt: skip
def test_a_shard_is_named_by_a_plain_file_name(tmp_path: Path, name: object):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder, folder / "sub"):
        save_file({"x": torch.ones(2)}, place / "a.safetensors")
    with pytest.raises(ArtifactError, match=r"has tensor 'x' in .*, which is no plain file name"):
        open_checkpoint(write_index_of(folder, {"x": name}))


@pytest.mark.parametrize("target", ["a folder above", "a folder below", "a folder that is a link"])
def test_a_shard_that_is_a_link_to_elsewhere_is_refused(tmp_path: Path, target: str):
    folder = tmp_path / "folder"
    elsewhere = folder / "below" if target == "a folder below" else tmp_path / "above"
    elsewhere.mkdir(parents=True)
    folder.mkdir(exist_ok=True)
    save_file({"x": torch.ones(2)}, elsewhere / "secret.safetensors")
    if target == "a folder that is a link":
        (folder / "link").symlink_to(elsewhere)
        (folder / "a.safetensors").symlink_to(folder / "link" / "secret.safetensors")
    else:
        (folder / "a.safetensors").symlink_to(elsewhere / "secret.safetensors")
    with pytest.raises(ArtifactError, match=r"a\.safetensors is a link to .*secret\.safetensors, outside"):
        open_checkpoint(write_index_of(folder, {"x": "a.safetensors"}))


def test_a_link_to_itself_is_refused(tmp_path: Path):
    (tmp_path / "a.safetensors").symlink_to(tmp_path / "a.safetensors")
    with pytest.raises(ArtifactError, match=r"needs the shard 'a\.safetensors'"):
        open_checkpoint(write_index_of(tmp_path, {"x": "a.safetensors"}))


def test_a_missing_shard_is_named(tmp_path: Path):
    save_file({"x": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ArtifactError, match=r"m\.safetensors\.index\.json needs the shard 'b\.safetensors'.*No such"):
        open_checkpoint(write_index_of(tmp_path, {"x": "a.safetensors", "y": "b.safetensors"}))


def test_a_tensor_that_is_not_in_its_shard_is_named(tmp_path: Path):
    save_file({"x": torch.ones(2)}, tmp_path / "a.safetensors")
    save_file({"y": torch.ones(2)}, tmp_path / "b.safetensors")
    with pytest.raises(ArtifactError, match=r"index\.json has tensor 'z' in 'b\.safetensors', where it is not"):
        open_checkpoint(write_index_of(tmp_path, {"x": "a.safetensors", "y": "b.safetensors", "z": "b.safetensors"}))


def test_a_tensor_that_is_in_a_shard_only_is_named(tmp_path: Path):
    save_file({"x": torch.ones(2), "y": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ArtifactError, match=r"'a\.safetensors' holds tensor 'y'"):
        open_checkpoint(write_index_of(tmp_path, {"x": "a.safetensors"}))


def test_a_tensor_that_is_in_two_shards_is_named(tmp_path: Path):
    save_file({"x": torch.ones(2)}, tmp_path / "a.safetensors")
    save_file({"x": torch.ones(2), "y": torch.ones(2)}, tmp_path / "b.safetensors")
    with pytest.raises(ArtifactError, match=r"'b\.safetensors' holds tensor 'x'"):
        open_checkpoint(write_index_of(tmp_path, {"x": "a.safetensors", "y": "b.safetensors"}))


@pytest.mark.parametrize("name", ["m.safetensors", "m.safetensors.index.json", "m.pt", "m.bin"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ArtifactError, match=f"{name} is not a file"):
        open_checkpoint(tmp_path / name)


def test_a_shard_that_is_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(ArtifactError, match="is not a file"):
        open_checkpoint(write_index_of(tmp_path, {"x": "a.safetensors"}))


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.pt", "absent", "a\0b.safetensors"])
def test_a_path_that_leads_to_nothing_is_an_error(tmp_path: Path, name: str):
    with pytest.raises(ArtifactError, match="cannot be read"):
        open_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", ["m.onnx", "m.json", "m", "pytorch_model.bin.index.json", "m.SAFETENSORS"])
def test_a_file_of_another_kind_is_an_error_that_lists_the_kinds(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"ends in one of \.safetensors, .*\.bin"):
        open_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no safetensors file or index"),
        (["a.txt", ".b.safetensors"], "no safetensors file or index"),
        (["a.safetensors", "b.safetensors"], r"a\.safetensors, b\.safetensors: name the one"),
        (["a.safetensors.index.json", "b.safetensors.index.json"], "name the one"),
        (["a.safetensors.index.json", "a.safetensors"], "name the one"),
    ],
    ids=str,
)
def test_a_folder_that_could_mean_several_things_or_nothing_is_refused(tmp_path: Path, names: list[str], words: str):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ArtifactError, match=words):
        open_checkpoint(tmp_path)


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


SPARSE = torch.eye(2).to_sparse()
CONTENTS = {
    "a list": ([torch.ones(1)], "holds a list"),
    "a tensor": (torch.ones(1), "holds a Tensor"),
    "a number among tensors": ({"x": torch.ones(1), "epoch": 3}, "'epoch' is a int, not a tensor: take it out"),
    "a name that is a number": ({3: torch.ones(1)}, "cannot be read as a file of plain tensors"),
    "a training checkpoint": (
        {"state_dict": {"x": torch.ones(1)}, "epoch": 3, "optimizer": {"state": {}}},
        r"under 'state_dict', and has the keys 'state_dict', 'epoch', 'optimizer'.*\['state_dict'\]",
    ),
    "a training checkpoint with an optimizer": (
        {"epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}}, "model_state_dict": {"x": torch.ones(1)}},
        r"checkpoint of training, save its weights alone: .*\['model_state_dict'\]",
    ),
    "a training checkpoint with options": (
        {"options": argparse.Namespace(lr=3), "model": {"x": torch.ones(1)}},
        r"checkpoint of training, save its weights alone: .*\['model'\]",
    ),
    "two sets of weights": (
        {"model": {"x": torch.ones(1)}, "ema": {"x": torch.ones(1)}},
        "under 'model' and 'ema'",
    ),
    "a sparse tensor": ({"x": SPARSE}, "cannot be read as a file of plain tensors"),
    "a tensor without data": ({"x": torch.ones(2, device="meta")}, "cannot be read as a file of plain tensors"),
    "a tensor expanded beyond the file": ({"x": torch.ones(1).expand(10**6, 10**6)}, r"shape \(1000000, 1000000\)"),
    "a manifest that is no text": ({"tensors": {"x": torch.ones(1)}, "mono_quant": 3}, "'mono_quant' is a int"),
    "tensors that are no mapping": ({"tensors": [torch.ones(1)], "mono_quant": None}, "'tensors' is a list"),
}


@pytest.mark.parametrize("what", CONTENTS)
def test_a_torch_file_with_something_else_in_it_is_refused(tmp_path: Path, what: str):
    content, words = CONTENTS[what]
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(ArtifactError, match=words) as caught:
        open_checkpoint(tmp_path / "m.pt")
    assert "m.pt" in str(caught.value)


@pytest.mark.parametrize("protocol", ["zip", "plain pickle"])
def test_code_in_a_torch_file_is_not_run(tmp_path: Path, protocol: str):
    mark, path = tmp_path / "mark", tmp_path / "evil.pt"
    if protocol == "zip":
        torch.save({"x": torch.ones(1), "y": Payload(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(mark), protocol=2))
    with pytest.raises(ArtifactError, match=r"evil\.pt"):
        open_checkpoint(path)
    assert not mark.exists()


def test_the_torch_format_of_before_1_6_is_refused(tmp_path: Path):
    torch.save({"x": torch.ones(1)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ArtifactError, match=r"old\.pt is in the format of torch before 1\.6"):
        open_checkpoint(tmp_path / "old.pt")


def test_a_program_of_torchscript_is_refused(tmp_path: Path):
    rewrite(tmp_path / "script.pt", lambda records: records | {"archive/constants.pkl": b""})
    with pytest.raises(ArtifactError, match=r"script\.pt .*TorchScript"):
        open_checkpoint(tmp_path / "script.pt")


def test_records_that_would_be_unpacked_are_refused(tmp_path: Path):
    rewrite(tmp_path / "bomb.pt", lambda records: records | {"archive/data.pkl": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ArtifactError, match=r"bomb\.pt .*record 'archive/data\.pkl' is compressed"):
        open_checkpoint(tmp_path / "bomb.pt")


def test_a_record_shorter_than_its_tensor_is_refused(tmp_path: Path):
    rewrite(
        tmp_path / "short.pt",
        lambda records: {name: data[:4] if name == "archive/data/0" else data for name, data in records.items()},
    )
    with pytest.raises(ArtifactError, match=r"short\.pt"), open_checkpoint(tmp_path / "short.pt") as checkpoint:
        checkpoint.read("x")


def test_a_torch_file_that_is_cut_off_is_refused(tmp_path: Path):
    path = tmp_path / "m.pt"
    torch.save({"x": torch.ones(50), "y": torch.zeros(3, dtype=torch.int8)}, path)
    content = path.read_bytes()
    for length in range(0, len(content), 17):
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=r"m\.pt"):
            open_checkpoint(path)


def rewrite(
    path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]], compression: int = zipfile.ZIP_STORED
) -> None:
    """A torch file with other records."""
    torch.save({"x": torch.ones(4000)}, path)
    with zipfile.ZipFile(path) as archive:
        records = {f"archive/{entry.filename.partition('/')[2]}": archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in change(records).items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"x": 3}, "'x' is a int"),
        ({3: torch.ones(1)}, "the key 3"),
        ({"x": SPARSE}, "sparse"),
        ({"x": torch.ones(1, device="meta")}, "no data"),
        ({"x": torch.nn.parameter.UninitializedParameter()}, "no data"),
        ({"x": torch.nested.nested_tensor([torch.ones(1)], layout=torch.jagged)}, "only dense plain tensors"),
    ],
    ids=["number", "key", "sparse", "meta", "uninitialized", "wrapper"],
)
def test_a_state_dict_with_something_else_in_it_is_refused(state: dict, words: str):
    with pytest.raises(ArtifactError, match=f"the state_dict.*{words}"):
        open_checkpoint(state)
