"""Writing tensors as they come: the bytes of the library, all of them once, or nothing."""

import json
import random
import resource
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mono_quant.core.tensors import same_bits
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.checkpoint import TensorInfo, open_checkpoint, write_checkpoint
from mono_quant.io.checkpoint.tensor_info import DTYPE_CODES

STATE = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "a.bias": torch.ones(2, dtype=torch.float64),
    "b": torch.tensor(1),
}


def infos_of(state: dict[str, Tensor]) -> dict[str, TensorInfo]:
    return {name: TensorInfo.of(tensor) for name, tensor in state.items()}


def write(
    path: Path, state: dict[str, Tensor], tensors: Iterable[tuple[str, Tensor]] | None = None, limit: int | None = None
) -> Path:
    return write_checkpoint(
        path, infos_of(state), state.items() if tensors is None else tensors, {"format": "pt"}, limit
    )


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_dtype_is_written_as_the_library_writes_it(tmp_path: Path):
    codes = torch.arange(48, dtype=torch.uint8)
    state = {f"{dtype}": (codes % 2 if dtype is torch.bool else codes).view(dtype).clone() for dtype in DTYPE_CODES}
    save_file(state, tmp_path / "library.safetensors", metadata={"format": "pt"})
    assert write(tmp_path / "ours.safetensors", state) == tmp_path / "ours.safetensors"
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "library.safetensors").read_bytes()
    with open_checkpoint(tmp_path / "ours.safetensors") as checkpoint:
        assert [*checkpoint] == [*state], "this is the order of widths"
        assert all(same_bits(checkpoint.read(name), tensor) for name, tensor in state.items())


def test_the_order_in_which_tensors_come_leaves_no_trace(tmp_path: Path):
    state = {f"x{i}": torch.full((i,), i) for i in range(20)}
    tensors = [*state.items()]
    write(tmp_path / "m.safetensors", state)
    content = (tmp_path / "m.safetensors").read_bytes()
    for seed in range(5):
        random.Random(seed).shuffle(tensors)  # noqa: S311
        write(tmp_path / "m.safetensors", state, iter(tensors))
        assert (tmp_path / "m.safetensors").read_bytes() == content


def test_metadata_stand_in_the_order_of_their_keys(tmp_path: Path):
    for keys in ("bca", "cab"):
        write_checkpoint(tmp_path / "m.safetensors", {}, [], dict.fromkeys(keys, "é\n"))
        header = (tmp_path / "m.safetensors").read_bytes()[8:]
        assert header.rstrip() == '{"__metadata__":{"a":"é\\n","b":"é\\n","c":"é\\n"}}'.encode()
        assert len(header) % 8 == 0


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(700, 900).t(),
        torch.randn(3, 1, 1).expand(3, 700, 200),
        torch.randn(1, 2, 300_000).transpose(1, 2),
        torch.randn(600_000)[::2],
        torch.randn(600_000, 2)[:, 1],
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(1).expand(2**19),
        torch.randn(10)[3:7],
        torch.randn(300_000, dtype=torch.complex64).conj(),
        torch.randn(300_000, dtype=torch.complex64).conj().imag,
        torch.nn.Parameter(torch.randn(3)),
        torch.randn(0, 4).t(),
        torch.randn(()),
    ],
    ids=lambda tensor: f"{list(tensor.shape)}{list(tensor.stride())}",
)
def test_a_tensor_of_any_strides_is_written_as_it_reads(tmp_path: Path, tensor: Tensor):
    write(tmp_path / "m.safetensors", {"x": tensor})
    assert same_bits(load_file(tmp_path / "m.safetensors")["x"], tensor)


def test_what_readers_would_not_take_is_not_written(tmp_path: Path):
    many = {f"x{i}": TensorInfo(torch.int8, ()) for i in range(100_001)}
    with pytest.raises(ArtifactError, match="cannot hold 100,001 tensors"):
        write_checkpoint(tmp_path / "m.safetensors", many, [], {})
    with pytest.raises(ArtifactError, match="'x': it has more than 64 dimensions"):
        write_checkpoint(tmp_path / "m.safetensors", {"x": TensorInfo(torch.int8, (1,) * 65)}, [], {})


def test_an_empty_checkpoint_is_one(tmp_path: Path):
    write_checkpoint(tmp_path / "m.safetensors", {}, [], {}, max_shard_bytes=1)
    save_file({}, tmp_path / "library.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "library.safetensors").read_bytes()


WRONG = {
    "missing": (
        lambda: [("a.weight", STATE["a.weight"]), ("b", STATE["b"])],
        "'a.bias' was announced and did not come",
    ),
    "twice": (lambda: [*STATE.items(), ("b", STATE["b"])], "'b' comes a second time"),
    "unknown": (lambda: [("c", torch.ones(1))], "'c' was not announced"),
    "another dtype": (
        lambda: [("b", torch.tensor(1.0))],
        r"'b' was announced as torch.int64\[\] and is torch.float32\[\]",
    ),
    "another shape": (lambda: [("b", torch.ones(1).long())], r"'b' was announced as torch.int64\[\] and is .*\[1\]"),
}


@pytest.mark.parametrize("limit", [None, 20], ids=["one file", "shards"])
@pytest.mark.parametrize("what", WRONG)
def test_tensors_that_are_not_as_announced_leave_everything_as_it_was(tmp_path: Path, what: str, limit: int | None):
    tensors, words = WRONG[what]
    write(tmp_path / "m.safetensors", {name: tensor + 1 for name, tensor in STATE.items()}, limit=limit)
    before = files_in(tmp_path)
    with pytest.raises(ArtifactError, match=rf"m(-0000\d-of-00002)?\.safetensors.* cannot be written: tensor {words}"):
        write(tmp_path / "m.safetensors", STATE, tensors(), limit)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("limit", [None, 20], ids=["one file", "shards"])
def test_a_failure_of_whoever_computes_the_tensors_leaves_everything_as_it_was(tmp_path: Path, limit: int | None):
    write(tmp_path / "m.safetensors", STATE, limit=limit)
    before = files_in(tmp_path)

    def tensors() -> Iterable[tuple[str, Tensor]]:
        yield "b", STATE["b"]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "m.safetensors", STATE, tensors(), limit)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("infos", "metadata", "words"),
    [
        ({"__metadata__": TensorInfo(torch.int8, ())}, {}, "cannot have '__metadata__' as a name"),
        ({"\ud800": TensorInfo(torch.int8, ())}, {}, "cannot have"),
        ({3: TensorInfo(torch.int8, ())}, {}, "cannot have 3 as a name"),
        ({}, {"a": 3}, "cannot have 3"),
        ({}, {"a": "\ud800"}, "cannot have"),
        ({"x": TensorInfo(torch.complex128, ())}, {}, "'x': torch.complex128 has no place"),
        ({"x": TensorInfo(torch.float4_e2m1fn_x2, ())}, {}, "'x': torch.float4_e2m1fn_x2 has no place"),
        ({}, {"a": "x" * 10**8}, "readers stop at"),
    ],
    ids=["reserved", "surrogate", "number", "metadata", "metadata surrogate", "complex128", "float4", "long header"],
)
def test_what_has_no_place_in_the_format_is_refused_before_anything_is_computed(
    tmp_path: Path, infos: dict, metadata: dict, words: str
):
    computed = []
    tensors = ((name, computed.append(name)) for name in infos)
    with pytest.raises(ArtifactError, match=rf"m\.safetensors .*{words}"):
        write_checkpoint(tmp_path / "m.safetensors", infos, tensors, metadata)
    assert not computed
    assert not files_in(tmp_path)


@pytest.mark.parametrize("place", ["m.pt", "m", "absent/m.safetensors"])
def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path: Path, place: str):
    with pytest.raises(ArtifactError, match="cannot be written"):
        write(tmp_path / place, STATE)
    assert not files_in(tmp_path)


@pytest.mark.parametrize("info", [(torch.int8, (-1,)), (torch.int8, ("2",)), ("int8", (2,))], ids=str)
def test_an_info_that_no_tensor_has_cannot_be_made(info: tuple):
    with pytest.raises((TypeError, ValueError)):
        TensorInfo(*info)


def weight_map_of(index: Path) -> dict[str, str]:
    return json.loads(index.read_text())["weight_map"]


def test_shards_keep_layers_whole_and_the_order_as_given(tmp_path: Path):
    sizes = {"c.w": 40, "a.w": 40, "c.w_scale": 10, "b.w": 60, "big.w": 500, "big.w_scale": 1, "d.w": 5, "e.w": 95}
    state = {name: torch.full((size,), size % 100, dtype=torch.int8) for name, size in sizes.items()}
    index = write(tmp_path / "m.safetensors", state, reversed(state.items()), 100)
    assert index == tmp_path / "m.safetensors.index.json"
    weight_map = weight_map_of(index)
    numbers = {
        name: int(file.removeprefix("m-").removesuffix("-of-00004.safetensors")) for name, file in weight_map.items()
    }
    assert list(numbers.items()) == [
        ("c.w", 1), ("a.w", 1), ("c.w_scale", 1), ("b.w", 2), ("big.w", 3), ("big.w_scale", 3), ("d.w", 4), ("e.w", 4),
    ]  # fmt: skip
    assert json.loads(index.read_text())["metadata"] == {"total_size": sum(sizes.values())}
    assert {*files_in(tmp_path)} == {index.name, *weight_map.values()}
    for file in weight_map.values():
        for name, tensor in load_file(tmp_path / file).items():
            assert weight_map[name] == file
            assert same_bits(tensor, state[name])


def test_shards_are_what_the_library_would_write(tmp_path: Path):
    weight_map = weight_map_of(write(tmp_path / "m.safetensors", STATE, limit=20))
    for file in {*weight_map.values()}:
        save_file({name: STATE[name] for name in STATE if weight_map[name] == file}, tmp_path / "x", {"format": "pt"})
        assert (tmp_path / file).read_bytes() == (tmp_path / "x").read_bytes()


@pytest.mark.parametrize("limit", [48, 10**9])
def test_what_fits_one_shard_is_one_file(tmp_path: Path, limit: int):
    assert write(tmp_path / "m.safetensors", STATE, limit=limit) == tmp_path / "m.safetensors"
    assert [*files_in(tmp_path)] == ["m.safetensors"]


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_that_nothing_fits_is_refused(tmp_path: Path, limit: int):
    with pytest.raises(ConfigurationError, match="max_shard_bytes"):
        write(tmp_path / "m.safetensors", STATE, limit=limit)


@pytest.mark.parametrize(("first", "second"), [(None, 20), (20, None)])
def test_one_file_and_several_of_the_same_name_are_not_written_beside_each_other(
    tmp_path: Path, first: int | None, second: int | None
):
    write(tmp_path / "m.safetensors", STATE, limit=first)
    before = files_in(tmp_path)
    with pytest.raises(ArtifactError, match=r"cannot be written beside m\.safetensors"):
        write(tmp_path / "m.safetensors", STATE, limit=second)
    assert files_in(tmp_path) == before


@pytest.fixture
def _few_open_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_few_open_files")
def test_more_shards_than_files_can_be_open_are_written_and_not_read(tmp_path: Path):
    state = {f"{i}.x": torch.tensor(i) for i in range(100)}
    written = write(tmp_path / "m.safetensors", state, limit=8)
    assert len(files_in(tmp_path)) == 101
    with pytest.raises(ArtifactError, match=r"m-000\d\d-of-00100\.safetensors.*Too many open files"):
        open_checkpoint(written)
