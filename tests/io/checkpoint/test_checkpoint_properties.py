"""Any names, dtypes and shapes: what is written is read back bit for bit, by us and by the library."""

import json
import random
import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from mono_quant.core.tensors import same_bits
from mono_quant.io.checkpoint import TensorInfo, open_checkpoint, write_checkpoint
from mono_quant.io.checkpoint.tensor_info import DTYPE_CODES

State = dict[str, Tensor]
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NAMES = (TEXT | st.lists(TEXT, min_size=2, max_size=4).map(".".join)).filter(lambda name: name != "__metadata__")


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Of any dtype and up to four sizes, 0-d and empty ones among them, with any bits in it, its axes in any order."""
    dtype = draw(st.sampled_from([*DTYPE_CODES]))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    size = TensorInfo(dtype, shape).nbytes
    content = torch.tensor([*draw(st.binary(min_size=size, max_size=size))], dtype=torch.uint8)
    tensor = (content % 2 if dtype is torch.bool else content).view(dtype).reshape(shape)
    return tensor.permute(draw(st.permutations(range(tensor.dim()))))


STATES = st.dictionaries(NAMES, tensors(), max_size=8)
METADATA = st.dictionaries(TEXT, TEXT, max_size=3)


def infos_of(state: State) -> dict[str, TensorInfo]:
    return {name: TensorInfo.of(tensor) for name, tensor in state.items()}


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same_tensors(read: State, state: State) -> None:
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert same_bits(read[name], tensor)


@settings(deadline=None)
@given(STATES, METADATA, st.randoms())
def test_one_file_is_read_back_bit_for_bit_and_written_again_the_same(
    state: State, metadata: dict[str, str], order: random.Random
):
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("a.safetensors", "b.safetensors", "library.safetensors")]
        for path in paths[:2]:
            arriving = [*state.items()]
            order.shuffle(arriving)
            assert write_checkpoint(path, infos_of(state), arriving, metadata) == path
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert_same_tensors(load_file(paths[0]), state)
        with open_checkpoint(paths[0]) as checkpoint:
            assert checkpoint.infos == infos_of(state)
            assert checkpoint.metadata == metadata
            assert_same_tensors({name: checkpoint.read(name) for name in checkpoint}, state)
        if len(metadata) < 2:  # of more, the library writes the keys in random order
            save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, paths[2], metadata or None)
            assert paths[0].read_bytes() == paths[2].read_bytes()


@settings(deadline=None, max_examples=60)
@given(STATES, METADATA, st.integers(1, 200))
def test_shards_are_read_back_bit_for_bit_and_hold_layers_whole(state: State, metadata: dict[str, str], limit: int):
    infos = infos_of(state)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        written = write_checkpoint(folder / "m.safetensors", infos, reversed(state.items()), metadata, limit)
        with open_checkpoint(written) as checkpoint:
            assert checkpoint.infos == infos
            assert checkpoint.metadata == metadata
            assert_same_tensors({name: checkpoint.read(name) for name in checkpoint}, state)
        before = files_in(folder)
        write_checkpoint(folder / "m.safetensors", infos, state.items(), metadata, limit)
        assert files_in(folder) == before
        if written.suffix == ".json":
            index = json.loads(written.read_text())
            assert index["metadata"] == {"total_size": sum(info.nbytes for info in infos.values())}
            assert [*index["weight_map"]] == [*state]
            assert {*before} == {written.name, *index["weight_map"].values()}
            shards = {file: load_file(folder / file) for file in before if file != written.name}
            assert_same_tensors({name: shards[file][name] for name, file in index["weight_map"].items()}, state)
            layers = [{name.rpartition(".")[0] for name in shard} for shard in shards.values()]
            assert sum(map(len, layers)) == len({name.rpartition(".")[0] for name in state})
            sizes = [sum(infos[name].nbytes for name in shard) for shard in shards.values()]
            assert all(size <= limit or len(layer) == 1 for size, layer in zip(sizes, layers, strict=True))


@settings(deadline=None, max_examples=60)
@given(STATES)
def test_a_torch_file_and_a_state_dict_give_what_is_in_them(state: State):
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "m.pt")
        for source in (Path(folder) / "m.pt", state):
            with open_checkpoint(source) as checkpoint:
                assert checkpoint.infos == infos_of(state)
                assert not checkpoint.ties
                assert_same_tensors({name: checkpoint.read(name) for name in checkpoint}, state)
