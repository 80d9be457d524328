"""What every format of folders promises."""

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mono_quant.core.encoding import encode
from mono_quant.core.granularity import Granularity, PerChannel, PerGroup, PerTensor
from mono_quant.core.qtypes import FLOAT8_E4M3, int_type
from mono_quant.core.tensors import same_bits
from mono_quant.errors import ArtifactError
from mono_quant.plugin_api import Artifact, FolderFormat, LayerPlan, WeightSpec
from mono_quant.quantizer import Quantizer
from mono_quant.testing.data import seeded
from mono_quant.testing.killing import refuse_broken_by_kills
from mono_quant.testing.models import batches, small_net

__all__ = ["FolderFormatSuite"]

_MANIFEST: dict[str, Any] = {"version": 1, "text": 'größer ≥ 0 "quoted" \\ \n', "nested": {"list": [1, 2.5, None]}}
_GRAINS: tuple[Granularity, ...] = (PerTensor(), PerChannel(0), PerGroup(8, 0))
_SHAPES = ((3, 8), (16, 24), (33, 40))
_WHAT_IT_IS_NOT: dict[str, bytes] = {
    "config.json": b'{"model_type": "llama"}', "model.safetensors": b"not a model", "README.md": b"# A folder",
}  # fmt: skip


class FolderFormatSuite(ABC):
    """Derive a test class from it, write `make` and set `name`.

    The format must be one that can be pickled and imported: its savers run in processes that are killed.
    """

    name: ClassVar[str]
    """The format's registry name."""

    kills: ClassVar[int] = 20
    """How often a saver is killed."""

    @abstractmethod
    def make(self) -> FolderFormat:
        """A new format."""

    def plans(self) -> dict[str, LayerPlan]:
        """Linear layers of many kinds, of which those are tried that the format does not refuse."""
        specs = [
            WeightSpec(dtype=dtype, symmetric=symmetric, granularity=grain, shape=shape)
            for dtype in (*map(int_type, range(2, 9)), FLOAT8_E4M3)
            for symmetric in ((True,) if dtype.is_float else (True, False))
            for grain in _GRAINS
            for shape in _SHAPES
        ]
        return {f"layers.{number}.fc": _plan_of(f"layers.{number}.fc", spec) for number, spec in enumerate(specs)}

    def test_it_is_a_format_of_folders(self) -> None:
        assert isinstance(self.make(), FolderFormat), "make() must give a mono_quant.plugin_api.FolderFormat"

    def test_every_tensor_comes_back_bit_for_bit(self, tmp_path: Path) -> None:
        for manifest in (_MANIFEST, None):
            artifact = Artifact(_tensors(), manifest)
            _assert_same(artifact, self._saved_and_loaded(artifact, tmp_path))

    def test_an_existing_folder_gets_other_content(self, tmp_path: Path) -> None:
        for value in (1.0, 2.0):
            artifact = Artifact({"x": torch.full((5,), value)}, {"value": value})
            _assert_same(artifact, self._saved_and_loaded(artifact, tmp_path))

    def test_saving_changes_nothing(self, tmp_path: Path) -> None:
        tensors = _tensors()
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        self.make().save(Artifact(tensors, _MANIFEST), tmp_path / "model")
        assert all(same_bits(before[name], tensor) for name, tensor in tensors.items()), "save() changed a tensor"

    def test_the_same_artifact_gives_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("one", "another"):
            self.make().save(Artifact(_tensors(), _MANIFEST), tmp_path / name)
        one, other = (_content(tmp_path / name) for name in ("one", "another"))
        assert one == other, "the same tensors and manifest give different bytes, by the place or time of writing"

    def test_other_files_in_the_folder_stay(self, tmp_path: Path) -> None:
        path = tmp_path / "model"
        (path / "inner").mkdir(parents=True)
        others = {"tokenizer.json": b"{}", "inner/notes.txt": b"notes"}
        for name, content in others.items():
            (path / name).write_bytes(content)
        self.make().save(Artifact({"x": torch.ones(2)}, {}), path)
        assert {name: _content(path)[name] for name in others} == others

    def test_a_loaded_artifact_outlives_its_folder(self, tmp_path: Path) -> None:
        artifact = Artifact(_tensors(), {})
        loaded = self._saved_and_loaded(artifact, tmp_path)
        shutil.rmtree(tmp_path / "model")
        _assert_same(artifact, loaded)

    def test_a_loaded_tensor_can_be_written_without_changing_the_folder(self, tmp_path: Path) -> None:
        loaded = self._saved_and_loaded(Artifact({"x": torch.ones(1000)}, {}), tmp_path)
        before = _content(tmp_path / "model")
        loaded.tensors["x"].zero_()
        assert _content(tmp_path / "model") == before, "writing into a loaded tensor wrote into a file"

    @pytest.mark.parametrize("kind", ["sparse", "meta"])
    def test_what_it_cannot_hold_is_refused_before_anything_is_written(self, kind: str, tmp_path: Path) -> None:
        odd = torch.eye(2).to_sparse() if kind == "sparse" else torch.empty(2, device="meta")
        artifact = Artifact({"fine": torch.ones(2), "the.odd.one": odd}, {})
        reasons = self.make().can_store(artifact)
        assert any("the.odd.one" in reason for reason in reasons), "the reason must name the tensor"
        with pytest.raises(ArtifactError):
            self.make().save(artifact, tmp_path / "model")
        assert list(tmp_path.iterdir()) == [], "a refused save() left something behind"

    def test_what_it_can_hold_has_no_reason_against_it(self) -> None:
        assert self.make().can_store(Artifact(_tensors(), _MANIFEST)) == []

    def test_a_place_that_is_none_is_an_error(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"a file")
        for path in (tmp_path / "nowhere" / "model", file):
            with pytest.raises(ArtifactError):
                self.make().save(Artifact({"x": torch.ones(2)}, {}), path)
            with pytest.raises(ArtifactError):
                self.make().load(path)
        assert list(tmp_path.iterdir()) == [file]
        assert file.read_bytes() == b"a file"

    def test_another_folder_is_not_recognized_and_an_error(self, tmp_path: Path) -> None:
        for chosen in ([], *([name] for name in _WHAT_IT_IS_NOT), list(_WHAT_IT_IS_NOT)):
            folder = tmp_path / "-".join(["of", *chosen])
            folder.mkdir()
            for name in chosen:
                (folder / name).write_bytes(_WHAT_IT_IS_NOT[name])
            assert not self.make().recognizes(folder), f"it recognizes a folder with {chosen}"
            with pytest.raises(ArtifactError):
                self.make().load(folder)

    def test_a_folder_with_a_file_cut_off_is_an_error(self, tmp_path: Path) -> None:
        self._saved_and_loaded(Artifact(_tensors(), _MANIFEST), tmp_path)
        for file in (tmp_path / "model").glob("*.safetensors"):
            whole = file.read_bytes()
            for length in (0, 1, len(whole) // 2, len(whole) - 1):
                file.write_bytes(whole[:length])
                with pytest.raises(ArtifactError):
                    self.make().load(tmp_path / "model")
            file.write_bytes(whole)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no SIGKILL here")
    def test_a_killed_saver_leaves_the_old_or_the_new_tensors(self, tmp_path: Path) -> None:
        if self.kills:
            refuse_broken_by_kills(self.make(), tmp_path / "model", self.kills)

    def test_a_quantized_model_comes_back(self, tmp_path: Path) -> None:
        model, data, path = small_net(), batches(), tmp_path / "model"
        for scheme in ("int8-static", "int8-weight-only"):
            quantizer = Quantizer(scheme, validators=(), algorithms=(), exclude=["conv"], show_progress=False)
            result = quantizer.quantize(model, data)
            refused = self.make().refusals(result.plan.layers, result.plan.kept)
            assert not refused, f"Linear layers of {scheme} are refused: {refused}"
            result.save(tmp_path / "built-in.safetensors")
            result.save(path, format=self.name)
            assert self.make().recognizes(path), "recognizes() does not know a folder that save() wrote"
            loaded = quantizer.load(path, small_net(), format=self.name).state_dict()
            state = result.model.state_dict()
            assert set(loaded) == set(state)
            wrong = [name for name, tensor in state.items() if not same_bits(tensor, loaded[name])]
            assert not wrong, f"these came back with another dtype, shape or bit: {wrong}"

    def test_encode_gives_what_layout_announces(self) -> None:
        made = self.make()
        plans = self.plans()
        refused = made.refusals(plans, ())
        assert set(refused) < set(plans), "every plan is refused"
        for name, plan in plans.items():
            if name in refused:
                continue
            parameter, spec = f"{name}.weight", plan.weights["weight"]
            given = encode(torch.randn(spec.shape, generator=seeded()), spec)
            announced = dict(made.layout(parameter, spec))
            tensors = made.encode(parameter, given, spec)
            found = {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in tensors.items()}
            assert found == announced, f"encode() of {spec} gives {found}, and layout() announces {announced}"

    def test_refusals_name_layers_that_were_asked_about_and_say_why(self) -> None:
        plans = self.plans() | {"conv": _plan_of("conv", _spec((4, 3, 3, 3)), "Conv2d")}
        refused = self.make().refusals(plans, ())
        assert set(refused) <= set(plans)
        assert all(refused.values()), "a refusal without a reason"

    def test_a_config_is_made_of_json_values(self) -> None:
        made = self.make()
        plans = {name: plan for name, plan in self.plans().items() if name not in made.refusals(self.plans(), ())}
        said = made.config(plans, {"head.weight": (4, 4), "norm.weight": (4,)})
        assert json.loads(json.dumps(said)) == said, "config() gives what JSON cannot hold"

    def _saved_and_loaded(self, artifact: Artifact, folder: Path) -> Artifact:
        self.make().save(artifact, folder / "model")
        return self.make().load(folder / "model")


def _spec(shape: tuple[int, ...]) -> WeightSpec:
    return WeightSpec(dtype=int_type(8), symmetric=True, granularity=PerChannel(0), shape=shape)


def _plan_of(name: str, spec: WeightSpec, layer_type: str = "Linear") -> LayerPlan:
    scheme = "float8-weight-only" if spec.dtype.is_float else f"{spec.dtype.name}-weight-only"
    return LayerPlan(
        name=name,
        layer_type=layer_type,
        scheme=scheme,
        weights={"weight": spec},
        input=None,
        quantized_bytes=spec.nbytes,
    )


def _tensors() -> dict[str, Tensor]:
    floats = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    integers = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)
    made = {f"l.{d}": torch.randint(0, 100, (3, 4), generator=seeded()).to(d) for d in (*floats, *integers)}
    base = torch.arange(24.0).reshape(4, 6)
    return made | {
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 5),
        "transposed": base.t(),
        "a view": base[1:3, 2:4],
        "größe": base[0].clone(),
        "not-finite": torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0]),
    }


def _content(folder: Path) -> dict[str, bytes]:
    return dict(_files(folder))


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def _assert_same(artifact: Artifact, loaded: Artifact) -> None:
    assert isinstance(loaded, Artifact), "load() must give an Artifact"
    assert set(loaded.tensors) == set(artifact.tensors), "load() gives tensors of other names"
    wrong = [name for name, tensor in artifact.tensors.items() if not same_bits(tensor, loaded.tensors[name])]
    assert not wrong, f"these came back with another dtype, shape or bit: {wrong}"
    assert loaded.manifest == artifact.manifest, "the manifest came back as another one"
