"""Programs of torch.export: alone in the world, as small as tensors, and the model itself for who has its class."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import Tied, mlp, quantize, rows
from torch import Tensor, nn

from mono_quant import Quantizer, save_model
from mono_quant.core.tensors import same_bits
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io import load_model
from mono_quant.io.checks import run_once
from mono_quant.io.torch_export_format import TorchExportFormat
from mono_quant.plugin_api import Batch
from mono_quant.saved import read_artifact
from mono_quant.testing.runtime_models import runtime_models

ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mono_quant":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
import torch
program, x, y = sys.argv[1:]
given = torch.load(x)
with torch.no_grad():
    torch.save(torch.export.load(program).module()(**given), y)
assert "mono_quant" not in sys.modules
"""

WRITE = """
import sys, torch
from mono_quant import Quantizer
from mono_quant.testing.runtime_models import runtime_models
model, scheme, batches = runtime_models()["convolutions"]
Quantizer(scheme, validators=(), kernel="reference").quantize(model, batches).save(sys.argv[1])
"""


def in_a_process(code: str, *arguments: Path, **environment: str) -> None:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})  # noqa: S603 - the code stands in this file
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", ["sequences", "sequences, dynamic", "sequences, int4 weights"])
def test_a_process_without_mono_quant_runs_it(name: str, tmp_path: Path):
    model, scheme, batches = runtime_models()[name]
    result = Quantizer(scheme, validators=(), kernel="reference").quantize(model, batches)
    result.save(tmp_path / "model.pt2")
    torch.save(batches[1], tmp_path / "x.pt")
    in_a_process(ALONE, *(tmp_path / file for file in ("model.pt2", "x.pt", "y.pt")))
    (expected, pooled), given = run_once(result.model, Batch(kwargs=batches[1])), torch.load(tmp_path / "y.pt")
    assert list(given) == ["logits", "pooled"]
    if "weights" in name:
        torch.testing.assert_close(given["logits"], expected, rtol=1e-5, atol=1e-5)
    else:
        assert same_bits(given["logits"], expected)
        assert same_bits(given["pooled"], pooled)


def test_other_processes_write_the_same_bytes(tmp_path: Path):
    paths = [tmp_path / "one.pt2", tmp_path / "another.pt2"]
    for seed, path in enumerate(paths):
        in_a_process(WRITE, path, PYTHONHASHSEED=str(seed))
    one, other = (path.read_bytes() for path in paths)
    assert one == other


@pytest.mark.parametrize("scheme", ["int8-static", "int8-weight-only", "int4-weight-only"])
def test_it_is_about_as_small_as_tensors(scheme: str, tmp_path: Path):
    model = nn.Sequential(nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 1024))
    result = Quantizer(scheme, validators=()).quantize(model, [torch.randn(4, 1024)])
    for suffix in (".pt2", ".safetensors"):
        result.save(tmp_path / f"model{suffix}")
    tensors, program = ((tmp_path / f"model{suffix}").stat().st_size for suffix in (".safetensors", ".pt2"))
    assert program < tensors + 50_000 * len(model)


def test_it_says_nothing_of_where_it_was_made(tmp_path: Path):
    quantize(mlp(), rows(), validators=()).save(tmp_path / "model.pt2")
    content = (tmp_path / "model.pt2").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content


def test_with_the_models_class_it_is_the_quantized_model(tmp_path: Path):
    result = quantize(mlp(), rows(), validators=(), kernel="reference")
    result.save(tmp_path / "model.pt2")
    loaded = Quantizer(kernel="reference").load(tmp_path / "model.pt2", mlp)
    assert all(map(same_bits, result.model.state_dict().values(), loaded.state_dict().values()))
    batch = Batch((rows()[0],))
    assert all(map(same_bits, run_once(result.model, batch), run_once(loaded, batch)))


def test_a_loaded_model_is_written_with_an_example(tmp_path: Path):
    result = quantize(mlp(), rows(), validators=())
    result.save(tmp_path / "model.safetensors")
    result.save(tmp_path / "model.pt2")
    loaded = Quantizer().load(tmp_path / "model.safetensors", mlp)
    save_model(loaded, tmp_path / "again.pt2", example=rows()[0])
    assert (tmp_path / "again.pt2").read_bytes() == (tmp_path / "model.pt2").read_bytes()


def test_shared_tensors_stand_in_it_once(tmp_path: Path):
    tokens = [torch.randint(16, (4, 5)) for _ in range(3)]
    result = Quantizer("int8-weight-only", validators=()).quantize(Tied(), tokens)
    result.save(tmp_path / "model.pt2")
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        records = [name for name in archive.namelist() if "/weights/weight_" in name]
    artifact = read_artifact(tmp_path / "model.pt2")
    assert artifact.manifest["ties"]
    assert len(records) == len(artifact.tensors)
    loaded = Quantizer().load(tmp_path / "model.pt2", Tied)
    assert loaded.head.weight is loaded.table.weight or same_bits(loaded.head.weight, loaded.table.weight)


def test_tensors_of_anybodys_program_are_read(tmp_path: Path):
    model = mlp().eval()
    torch.export.save(torch.export.export(model, (rows()[0],)), tmp_path / "model.pt2")
    artifact = read_artifact(tmp_path / "model.pt2")
    assert artifact.manifest is None
    assert all(same_bits(tensor, artifact.tensors[name]) for name, tensor in model.state_dict().items())
    assert load_model(tmp_path / "model.pt2").keys() == model.state_dict().keys()


class Counts(nn.Module):
    """Writes into a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x) * self.calls


def test_a_program_can_write_into_its_buffers(tmp_path: Path):
    result = quantize(Counts(), rows(), validators=(), kernel="reference")
    result.save(tmp_path / "model.pt2")
    assert float(result.model.calls) == 0
    program = Quantizer().load(tmp_path / "model.pt2")
    x = rows()[0]
    assert torch.equal(program(x) * 2, program(x))
    assert float(read_artifact(tmp_path / "model.pt2").tensors["calls"]) == 0


class LooksAtValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if float(x.sum()) > 0 else -self.linear(x)


def test_what_cannot_be_exported_is_named_with_torchs_reason_in_a_line(tmp_path: Path):
    result = quantize(LooksAtValues(), rows(), validators=())
    with pytest.raises(ArtifactError, match=r"model.pt2: LooksAtValues cannot be exported .*float32\[6, 8\].*: ") as e:
        result.save(tmp_path / "model.pt2")
    assert "\n" not in str(e.value)
    assert "Save it as .safetensors" in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_without_a_batch_there_is_no_program(tmp_path: Path):
    result = Quantizer("int8-weight-only", validators=()).quantize(mlp())
    with pytest.raises(ConfigurationError, match=r"quantized without data: give example="):
        result.save(tmp_path / "model.pt2")
    with pytest.raises(ArtifactError, match=r"save_model\(model, path, example=batch\)"):
        save_model(result.model, tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []
    result.save(tmp_path / "model.pt2", example=rows()[0])
    assert Quantizer().load(tmp_path / "model.pt2")(rows()[0]).shape == (6, 8)


def test_a_checkpoint_is_no_program(tmp_path: Path):
    checkpoint = Quantizer("int8-weight-only").quantize_checkpoint(mlp().state_dict())
    with pytest.raises(ArtifactError, match=r"here are tensors only: quantize the model"):
        checkpoint.save(tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


def test_tensors_need_a_model_and_say_so(tmp_path: Path):
    quantize(mlp(), rows(), validators=()).save(tmp_path / "model.safetensors")
    with pytest.raises(ConfigurationError, match=r"model.safetensors holds tensors: give the model's class"):
        Quantizer().load(tmp_path / "model.safetensors")


def test_an_input_that_does_not_fit_is_an_error(tmp_path: Path):
    quantize(mlp(), rows(), validators=()).save(tmp_path / "model.pt2")
    program = Quantizer().load(tmp_path / "model.pt2")
    for wrong in (torch.randn(6, 9), torch.randn(6, 8, dtype=torch.float64), torch.randn(2, 6, 8)):
        with pytest.raises((AssertionError, RuntimeError, ValueError)):
            program(wrong)


def _changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The file with another table of tensors, records and all else as torch writes it."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    table = json.loads(contents["archive/data/weights/model_weights_config.json"])
    change(table["config"])
    contents["archive/data/weights/model_weights_config.json"] = json.dumps(table).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def _entry(**changes: object) -> Callable[[dict[str, Any]], object]:
    def change(config: dict[str, Any]) -> None:
        entry = config["0.weight"]
        for key, value in changes.items():
            (entry if key in entry else entry["tensor_meta"])[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_entry(use_pickle=True), "it is no plain tensor"),
        (_entry(dtype=8), "larger than its record"),
        (_entry(dtype=99), "not described as torch does: KeyError"),
        (_entry(path_name="../model"), "not described as torch does: KeyError"),
        (_entry(path_name=["weight_0"]), "not described as torch does"),
        (_entry(sizes=[{"as_int": 2**40}], strides=[{"as_int": 0}]), "larger than its record"),
        (_entry(sizes=[{"as_int": 4}], strides=[{"as_int": 2**40}]), "larger than its record"),
        (_entry(sizes=[{"as_int": -1}]), "is no size"),
        (_entry(sizes=[{"as_expr": "s0"}]), "not described as torch does"),
        (_entry(sizes=[{"as_int": 1}] * 65, strides=[{"as_int": 1}] * 65), "its shape is odd"),
        (_entry(storage_offset={"as_int": 2**40}), "larger than its record"),
        (lambda config: config.update({"0.weight": None}), "not described as torch does"),
    ],
)
def test_a_table_that_claims_what_is_not_there_is_refused(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
):
    path = tmp_path / "model.pt2"
    quantize(mlp(), rows(), validators=()).save(path)
    _changed(path, change)
    with pytest.raises(ArtifactError, match=message):
        TorchExportFormat().load(path)


class CountsBesideAView(nn.Module):
    """Writes into a buffer of which another is a view, and reads that."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(8, 8)
        self.register_buffer("all", torch.zeros(4, 8))
        self.register_buffer("row", self.all[2])

    def forward(self, x: Tensor) -> Tensor:
        self.all.add_(1.0)
        return self.fc(x) + self.row


class Strided(nn.Module):
    """Reads more of a memory than its tensor shows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(8, 8)
        self.register_buffer("part", torch.randn(4, 8)[1:2])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + self.part.as_strided((8,), (1,), 16)


@pytest.mark.parametrize("net", [CountsBesideAView, Strided])
def test_buffers_that_share_memory_go_on_sharing_it(net: type[nn.Module], tmp_path: Path):
    model, x = net().eval(), torch.randn(4, 8)
    result = Quantizer("int8-weight-only", validators=(), kernel="reference").quantize(model)
    result.save(tmp_path / "model.pt2", example=x)
    program = Quantizer().load(tmp_path / "model.pt2")
    for _ in range(3):
        torch.testing.assert_close(program(x), result.model(x))


def test_a_float_tensor_may_lie_in_any_order(tmp_path: Path):
    model = nn.Sequential(nn.Linear(8, 8), nn.Conv1d(8, 8, 1)).eval()
    model[1].weight = nn.Parameter(torch.randn(1, 8, 8).permute(1, 2, 0))
    quantized = Quantizer("int8-weight-only", exclude=["1"], validators=()).quantize(model).model
    save_model(quantized, tmp_path / "model.pt2", example=torch.randn(8, 8))
    loaded = read_artifact(tmp_path / "model.pt2").tensors["1.weight"]
    assert same_bits(loaded, model[1].weight.detach())
