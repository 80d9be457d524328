"""From one format to another: the same codes, scales and manifest, or nothing is written and the layers are named."""

from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from mono_quant import Quantizer, convert, hookimpl, load_model, save_model
from mono_quant.core.tensors import same_bits
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.pytorch_format import PytorchFormat
from mono_quant.plugin_api import Artifact, Batch, FolderFormat, FormatSpec, LayerPlan, ProgramFormat, WeightSpec
from mono_quant.saved import read_artifact

SCHEMES = ["int8-static", "int8-dynamic", "int8-weight-only", "int4-weight-only", "float8-weight-only", "bfloat16"]


class Net(nn.Module):
    """Two linear layers that share their weight, and one beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(128, 128), nn.Linear(128, 128), nn.Linear(128, 3)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x).relu()))


def net() -> nn.Module:
    torch.manual_seed(0)
    return Net()


class Picky(PytorchFormat):
    """Refuses layers by their plan, and tensors by their values."""

    def __init__(self, *, word: str = "") -> None:
        self._word = word

    def refusals(self, layers: Mapping[str, LayerPlan], kept: Collection[str] = ()) -> Mapping[str, str]:
        del kept
        return {name: f"{self._word} is not for it: keep it in float" for name in layers if self._word == "codes"}

    def can_store(self, artifact: Artifact) -> list[str]:
        return [f"tensor {name!r} is refused" for name in artifact.tensors if self._word and self._word in name]


class Program(PytorchFormat, ProgramFormat):
    """Is a program by its class."""

    def save_program(self, model: nn.Module, example: Batch, artifact: Artifact, path: Path) -> None:
        raise NotImplementedError

    def load_program(self, path: Path) -> nn.Module:
        raise NotImplementedError


class Folder(FolderFormat):
    """One ``.pt`` file in a folder."""

    def can_store(self, artifact: Artifact) -> list[str]:
        return PytorchFormat().can_store(artifact)

    def save(self, artifact: Artifact, path: Path) -> None:
        path.mkdir()
        PytorchFormat().save(artifact, path / "all.pt")

    def load(self, path: Path) -> Artifact:
        return PytorchFormat().load(path / "all.pt")

    def recognizes(self, path: Path) -> bool:
        return (path / "all.pt").exists()

    def layout(self, name: str, spec: WeightSpec) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        raise NotImplementedError

    def encode(self, name: str, stored: Mapping[str, torch.Tensor], spec: WeightSpec) -> Mapping[str, torch.Tensor]:
        raise NotImplementedError

    def config(self, layers: object, kept: object) -> dict[str, object]:
        raise NotImplementedError


class Formats:
    """A plugin with all three."""

    @hookimpl
    def mono_quant_formats(self) -> list[FormatSpec]:
        return [
            FormatSpec(name="picky", summary="refuses", factory=Picky, suffixes=(".picky",)),
            FormatSpec(name="program", summary="a program", factory=Program, suffixes=(".program",)),
            FormatSpec(name="folder", summary="a folder", factory=Folder),
        ]


PLUGINS = (Formats(),)


def assert_same(one: Artifact, other: Artifact) -> None:
    assert set(one.tensors) == set(other.tensors)
    assert [name for name, tensor in one.tensors.items() if not same_bits(tensor, other.tensors[name])] == []
    assert one.manifest == other.manifest


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


def saved(folder: Path, scheme: str = "int8-weight-only", exclude: Iterable[str] = ()) -> Path:
    """A quantized model as ``.safetensors``."""
    path = folder / "model.safetensors"
    quantizer = Quantizer(scheme, exclude=exclude, kernel="reference", on_failure="ignore", show_progress=False)
    quantizer.quantize(net(), [torch.randn(4, 128) for _ in range(2)]).save(path)
    return path


def test_there_and_back_again_nothing_changes(tmp_path: Path, scheme: str):
    path = saved(tmp_path, scheme)
    first = read_artifact(path)
    assert first.manifest["ties"]
    steps = [path, *(tmp_path / name for name in ("a.pt", "b.picky", "c", "d.safetensors"))]
    for source, target in pairwise(steps):
        wanted = "folder" if target.name == "c" else None
        assert_same(first, convert(source, target, wanted, plugins=PLUGINS))
        assert_same(first, read_artifact(target, PLUGINS))
    assert steps[-1].read_bytes() == path.read_bytes()


def test_a_converted_file_loads_as_the_same_model(tmp_path: Path, scheme: str):
    path = saved(tmp_path, scheme)
    convert(path, tmp_path / "model.pt")
    quantizer = Quantizer(kernel="reference", show_progress=False)
    one, other = (quantizer.load(name, net) for name in (path, tmp_path / "model.pt"))
    x = torch.randn(5, 128)
    assert torch.equal(one(x), other(x))


def test_a_file_of_plain_tensors_is_converted_as_such(tmp_path: Path):
    save_model(net(), tmp_path / "float.safetensors")
    found = convert(tmp_path / "float.safetensors", tmp_path / "float.pt")
    assert set(found.manifest) == {"ties"}
    state = load_model(tmp_path / "float.pt")
    assert all(torch.equal(tensor, state[name]) for name, tensor in net().state_dict().items())


def test_several_files_become_one(tmp_path: Path):
    save_model(net(), tmp_path / "float.safetensors")
    checkpoint = Quantizer("int8-weight-only").quantize_checkpoint(tmp_path / "float.safetensors")
    checkpoint.save(tmp_path / "many.safetensors", max_shard_bytes=16_000)
    checkpoint.save(tmp_path / "one.safetensors")
    index = tmp_path / "many.safetensors.index.json"
    convert(index, tmp_path / "made.safetensors")
    assert_same(read_artifact(index), read_artifact(tmp_path / "made.safetensors"))
    assert_same(read_artifact(tmp_path / "one.safetensors"), read_artifact(tmp_path / "made.safetensors"))
    shard = next(tmp_path.glob("many-00001-*"))
    before = shard.read_bytes()
    with pytest.raises(ConfigurationError, match="overwrite the input"):
        convert(index, shard)
    assert shard.read_bytes() == before


def test_layers_that_do_not_fit_are_named_and_nothing_is_written(tmp_path: Path):
    path = saved(tmp_path, "int8-weight-only", exclude=["head"])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ArtifactError) as raised:
        convert(path, tmp_path / "made.picky", {"name": "picky", "word": "codes"}, plugins=PLUGINS)
    lines = str(raised.value).splitlines()
    assert "made.picky is not written" in lines[0]
    assert lines[1:] == [f"  layer {name!r}: codes is not for it: keep it in float" for name in ("first", "second")]
    assert sorted(tmp_path.iterdir()) == before


def test_tensors_that_do_not_fit_are_named_and_the_old_file_stays(tmp_path: Path):
    path, old = saved(tmp_path), tmp_path / "made.picky"
    old.write_text("old")
    with pytest.raises(ArtifactError, match=r"made\.picky cannot be written: tensor 'head\.bias' is refused"):
        convert(path, old, {"name": "picky", "word": "head.bias"}, plugins=PLUGINS)
    assert old.read_text() == "old"


def test_a_program_is_not_made_of_a_file(tmp_path: Path):
    path = saved(tmp_path)
    with pytest.raises(ConfigurationError, match=r"made\.program would be a program.*result\.save"):
        convert(path, tmp_path / "made.program", plugins=PLUGINS)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("by", ["name", "symbolic link", "hard link"])
def test_its_own_source_is_not_overwritten(tmp_path: Path, by: str):
    path = saved(tmp_path)
    target = path if by == "name" else tmp_path / "link.pt"
    if by == "symbolic link":
        target.symlink_to(path)
    if by == "hard link":
        target.hardlink_to(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="would overwrite the input"):
        convert(path, target)
    assert path.read_bytes() == before


def test_the_folder_of_the_source_is_not_written_over_it(tmp_path: Path):
    path = saved(tmp_path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="choose another folder"):
        convert(path, tmp_path, "folder", plugins=PLUGINS)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_file_in_the_source_folder_is_not_overwritten(tmp_path: Path):
    convert(saved(tmp_path), tmp_path / "folder", "folder", plugins=PLUGINS)
    with pytest.raises(ConfigurationError, match=r"all\.pt would overwrite the input"):
        convert(tmp_path / "folder", tmp_path / "folder" / "all.pt", plugins=PLUGINS)


@pytest.mark.parametrize("damage", ["scale", "dtype", "tie"])
def test_a_file_whose_manifest_and_tensors_differ_is_refused(tmp_path: Path, damage: str):
    path = saved(tmp_path)
    artifact = read_artifact(path)
    tensors, manifest = dict(artifact.tensors), artifact.manifest
    if damage == "scale":
        tensors["head.weight_scale"] = torch.zeros(3)
    if damage == "dtype":
        tensors["head.weight"] = tensors["head.weight"].short()
    if damage == "tie":
        manifest = manifest | {"ties": {"second.weight": "nowhere"}}
    PytorchFormat().save(Artifact(tensors, manifest), tmp_path / "damaged.pt")
    with pytest.raises(ArtifactError, match=r"damaged\.pt"):
        convert(tmp_path / "damaged.pt", tmp_path / "made.safetensors")
    assert not (tmp_path / "made.safetensors").exists()
