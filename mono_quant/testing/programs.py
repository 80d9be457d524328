"""What every format of programs promises."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import torch
from torch import Tensor, nn

from mono_quant.calibration.rows import resized
from mono_quant.core.tensors import iter_tensors, same_bits
from mono_quant.errors import ArtifactError
from mono_quant.io.artifact import to_artifact
from mono_quant.plugin_api import Artifact, Batch, FormatSpec, ProgramFormat, hookimpl
from mono_quant.quantizer import Quantizer
from mono_quant.result import QuantizationResult
from mono_quant.testing.data import seeded
from mono_quant.testing.runtime_models import runtime_models
from mono_quant.testing.whole_models import WholeModel, refuse_other_output

__all__ = ["ProgramFormatSuite"]

_OLD = b"the old file"


class ProgramFormatSuite(ABC):
    """Derive a test class from it, write `make` and set `suffix`."""

    suffix: ClassVar[str]
    """A file name ending of the format, with its dot."""

    least_db: ClassVar[float] = 100.0
    """SQNR that programs of small models must have against the reference kernels, on the batches of `models`."""

    has_tensors: ClassVar[bool] = True
    """Whether `load` gives the model's tensors and its manifest; where not, it is an `ArtifactError`."""

    @abstractmethod
    def make(self) -> ProgramFormat:
        """A new format."""

    def models(self) -> Mapping[str, tuple[nn.Module, str | Mapping[str, Any], Sequence[Any]]]:
        """Float models in eval mode that it must write, each with a scheme and batches, by a name."""
        return runtime_models()

    def test_it_is_a_format_of_programs(self) -> None:
        assert isinstance(self.make(), ProgramFormat), "make() must give a mono_quant.plugin_api.ProgramFormat"

    def test_programs_give_what_the_reference_kernels_give(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        for name, one in self._made(tmp_path_factory):
            for batch in one.model.batches:
                self._refuse_other_output(one.program, one.model.quantized, batch, name)

    def test_a_batch_of_another_size_runs(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        for name, one in self._made(tmp_path_factory):
            for rows in (1, 3):
                batch = resized(one.model.batches[0], rows)
                self._refuse_other_output(one.program, one.model.quantized, batch, f"{name}, {rows} rows")

    def test_written_with_one_row_it_runs_more(self, tmp_path: Path) -> None:
        result, rows = _small()
        path = tmp_path / f"model{self.suffix}"
        self._save(result.model, Batch((rows[:1],)), path)
        self._refuse_other_output(self.make().load_program(path), result.model, Batch((rows,)), "4 rows")

    def test_neither_the_model_nor_the_example_is_changed(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        for name, one in self._made(tmp_path_factory):
            one.model.refuse_change(name)

    def test_a_program_is_a_module_for_inference(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        _, one = next(self._made(tmp_path_factory))
        assert isinstance(one.program, nn.Module), "load_program() must give a module"
        batch = one.model.batches[0]
        for program in (one.program, one.program.eval(), one.program.train(), one.program.eval()):
            self._refuse_other_output(program, one.model.quantized, batch, "called again")
        outputs = iter_tensors(one.program(*batch.args, **batch.kwargs))
        assert not any(tensor.requires_grad for tensor in outputs), "outputs carry gradients"

    def test_a_program_outlives_its_file(self, tmp_path: Path) -> None:
        result, rows = _small()
        path = tmp_path / f"model{self.suffix}"
        self._save(result.model, Batch((rows,)), path)
        program = self.make().load_program(path)
        for file in tmp_path.iterdir():
            file.unlink()
        self._refuse_other_output(program, result.model, Batch((rows,)), "without its file")

    def test_the_same_model_gives_the_same_bytes(self, tmp_path: Path) -> None:
        result, rows = _small()
        for name in ("one", "another"):
            (tmp_path / name).mkdir()
            self._save(result.model, Batch((rows,)), tmp_path / name / f"model{self.suffix}")
        one, other = (_contents(tmp_path / name) for name in ("one", "another"))
        assert one == other, "the same model gives different bytes, by the place or time of writing"

    def test_no_numbers_of_the_example_are_in_the_file(self, tmp_path: Path) -> None:
        result, rows = _small()
        self._save(result.model, Batch((rows,)), tmp_path / f"model{self.suffix}")
        row = rows[0].numpy().tobytes()
        assert not any(row in content for content in _contents(tmp_path).values()), "users' data is in the file"

    def test_an_existing_file_is_replaced(self, tmp_path: Path) -> None:
        result, rows = _small()
        path = tmp_path / f"model{self.suffix}"
        path.write_bytes(_OLD)
        self._save(result.model, Batch((rows,)), path)
        program = self.make().load_program(path)
        self._refuse_other_output(program, result.model, Batch((rows,)), "written over another file")

    def test_a_model_that_cannot_become_a_program_is_refused_without_harm(self, tmp_path: Path) -> None:
        quantized = Quantizer(validators=(), show_progress=False).quantize(_LooksAtValues().eval(), [_rows()]).model
        path = tmp_path / f"model{self.suffix}"
        path.write_bytes(_OLD)
        with pytest.raises(ArtifactError):
            self._save(quantized, Batch((_rows(),)), path)
        assert _contents(tmp_path) == {path.name: _OLD}, "a refused save_program() left something behind"

    def test_a_folder_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        result, rows = _small()
        with pytest.raises(ArtifactError):
            self._save(result.model, Batch((rows,)), tmp_path / "nowhere" / f"model{self.suffix}")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_in_its_place_is_an_error(self, tmp_path: Path) -> None:
        result, rows = _small()
        path = tmp_path / f"model{self.suffix}"
        path.mkdir()
        with pytest.raises(ArtifactError):
            self._save(result.model, Batch((rows,)), path)
        for load in (self.make().load_program, self.make().load):
            with pytest.raises(ArtifactError):
                load(path)
        assert list(tmp_path.rglob("*")) == [path]

    @pytest.mark.parametrize(
        "content", [b"", b"\0", b"not a model\n" * 50, b"\xff" * 500, b"{}", b"PK\3\4" + b"\0" * 40]
    )
    def test_another_file_is_an_error(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / f"model{self.suffix}"
        path.write_bytes(content)
        self._refuse_to_load(path)

    def test_a_file_that_is_cut_off_or_not_there_is_an_error(self, tmp_path: Path) -> None:
        result, rows = _small()
        path = tmp_path / f"model{self.suffix}"
        self._save(result.model, Batch((rows,)), path)
        whole = path.read_bytes()
        for share in (1, 50, 99):
            path.write_bytes(whole[: len(whole) * share // 100])
            self._refuse_to_load(path)
        path.unlink()
        self._refuse_to_load(path)

    def test_tensors_alone_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / f"model{self.suffix}"
        path.write_bytes(_OLD)
        with pytest.raises(ArtifactError):
            self.make().save(Artifact({"x": torch.ones(2)}, {}), path)
        assert _contents(tmp_path) == {path.name: _OLD}, "a refused save() touched the old file, or left another"

    def test_the_tensors_and_the_manifest_can_be_read(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        for name, one in self._made(tmp_path_factory):
            if not self.has_tensors:
                with pytest.raises(ArtifactError):
                    self.make().load(one.path)
                continue
            expected, loaded = to_artifact(one.model.quantized), self.make().load(one.path)
            assert loaded.manifest == expected.manifest, f"{name}: another manifest"
            assert set(loaded.tensors) == set(expected.tensors), f"{name}: tensors of other names"
            wrong = [key for key, x in expected.tensors.items() if not same_bits(x, loaded.tensors[key])]
            assert not wrong, f"{name}: these came back with another dtype, shape or bit: {wrong}"

    def test_what_it_writes_it_does_not_refuse(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        for name, one in self._made(tmp_path_factory):
            assert self.make().can_store(to_artifact(one.model.quantized)) == [], name
        for name, (model, scheme, _) in self.models().items():
            plan = Quantizer(scheme).plan(model)
            assert not self.make().refusals(plan.layers, plan.kept), name

    def test_a_quantizer_writes_and_loads_it(self, tmp_path: Path) -> None:
        suite = self

        class Plugin:
            @hookimpl
            def mono_quant_formats(self) -> list[FormatSpec]:
                return [FormatSpec(name="under-test", summary="under test", factory=lambda: suite.make())]  # noqa: PLW0108

        model, rows = _float_model(), _rows()
        quantizer = Quantizer(plugins=[Plugin()], show_progress=False)
        result, path = quantizer.quantize(model, [rows]), tmp_path / f"model{self.suffix}"
        for example in (None, rows[:2]):
            result.save(path, "under-test", example=example)
            program = quantizer.load(path, format="under-test")
            self._refuse_other_output(program, result.model, Batch((rows,)), "through a quantizer")

    def _made(self, folders: pytest.TempPathFactory) -> Iterator[tuple[str, "_Made"]]:
        """The models, written and loaded once for all tests of the class."""
        for name, (model, scheme, batches) in self.models().items():
            if (type(self), name) not in _MADE:
                one, path = WholeModel.of(model, scheme, batches), folders.mktemp("program") / f"model{self.suffix}"
                self._save(one.quantized, one.batches[0], path)
                _MADE[type(self), name] = _Made(one, path, self.make().load_program(path))
            yield name, _MADE[type(self), name]

    def _save(self, quantized: nn.Module, example: Batch, path: Path) -> None:
        self.make().save_program(quantized, example, to_artifact(quantized), path)

    def _refuse_to_load(self, path: Path) -> None:
        for load in (self.make().load_program, self.make().load):
            with pytest.raises(ArtifactError):
                load(path)

    def _refuse_other_output(self, program: nn.Module, quantized: nn.Module, batch: Batch, what: str) -> None:
        refuse_other_output(program, quantized, batch, what, least_db=self.least_db)


@attrs.frozen(eq=False)
class _Made:
    """A model, its file and the program in it."""

    model: WholeModel
    path: Path
    program: nn.Module


_MADE: dict[tuple[type, str], _Made] = {}


class _LooksAtValues(nn.Module):
    """What it computes depends on the values of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x) if float(x.sum()) > 0 else self.linear(-x)
        return y


def _rows() -> Tensor:
    return torch.randn(4, 12, generator=seeded(3))


def _float_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def _small() -> tuple[QuantizationResult, Tensor]:
    """A small model that is quantized, and its only batch."""
    rows = _rows()
    return Quantizer(validators=(), show_progress=False).quantize(_float_model(), [rows]), rows


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
