"""Checkpoints in the layouts of torchao and optimum-quanto: their codes and scales become ours, and the rest is named.

``python -m tests.bench.foreign_checkpoints`` does the same with files that both really write.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mono_quant import Quantizer, convert, save_model
from mono_quant.cli import main
from mono_quant.errors import ArtifactError
from mono_quant.io.foreign import OptimumQuantoFormat, TorchaoFormat, recognized
from mono_quant.io.foreign.reading import metadata_of
from mono_quant.plugin_api import Artifact
from mono_quant.saved import read_artifact
from mono_quant.testing import FormatSuite

FEATURES, OUT = 64, 6


def codes_of(bits: int) -> Tensor:
    low = -(2 ** (bits - 1))
    codes = torch.randint(low, -low, (OUT, FEATURES), generator=torch.Generator().manual_seed(bits), dtype=torch.int8)
    codes[0, :2] = torch.tensor([low, -low - 1])
    return codes


def scales_of(groups: int) -> Tensor:
    return torch.rand(OUT, groups, generator=torch.Generator().manual_seed(groups)) + 0.01


def dtype_record(name: str) -> dict[str, str]:
    return {"_type": "torch.dtype", "_data": name}


def torchao_record(kind: str, block: list[int], *, names: list[str], **said: Any) -> str:  # noqa: ANN401 - JSON
    data = {"block_size": block, "dtype": dtype_record("float32"), **said}
    return json.dumps({"_type": kind, "_data": data, "_tensor_data_names": names})


def int8_record(block: list[int], **said: Any) -> str:  # noqa: ANN401
    said = {"act_quant_kwargs": None, "reduce_range": False, **said}
    return torchao_record("Int8Tensor", block, names=["zero_point", "qdata", "scale"], **said)


def intx_record(dtype: str, block: list[int], **said: Any) -> str:  # noqa: ANN401
    said = {"target_dtype": dtype_record(dtype), "activation_quantization": None, **said}
    return torchao_record("IntxUnpackedToInt8Tensor", block, names=["qdata", "scale", "zero_point"], **said)


def write_torchao(path: Path, record: str, parts: Mapping[str, Tensor], **more: Tensor) -> Path:
    """``fc.weight`` of these parts, and a bias."""
    tensors = {f"fc._weight_{part}": tensor for part, tensor in parts.items()} | {"fc.bias": torch.arange(float(OUT))}
    names = ["fc.weight", "fc.bias"]
    metadata = {"fc.weight": record, "fc.bias": '{"_type": "Tensor"}', "tensor_names": json.dumps(names)}
    save_file(tensors | more, path, metadata)
    return path


def write_quanto(folder: Path, layers: Mapping[str, Mapping[str, str]], tensors: Mapping[str, Tensor]) -> Path:
    save_file(dict(tensors), folder / "model.safetensors")
    (folder / "quanto_qmap.json").write_text(json.dumps(layers))
    return folder


def of_quanto(codes: Tensor, scale: Tensor) -> dict[str, Tensor]:
    return {
        "fc.weight._data": codes, "fc.weight._scale": scale, "fc.bias": torch.arange(float(OUT)),
        "fc.input_scale": torch.ones(()), "fc.output_scale": torch.ones(()),
    }  # fmt: skip


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(FEATURES, OUT)


def loaded_weight(path: Path) -> Tensor:
    """The weight as it is in a model that the converted file is loaded into."""
    convert(path, path.parent / "ours.safetensors")
    model = Quantizer(kernel="reference").load(path.parent / "ours.safetensors", Net)
    assert torch.equal(model.fc.bias, torch.arange(float(OUT)))
    return model.fc.dequantized("weight")


@pytest.mark.parametrize("block", [32, 64])
@pytest.mark.parametrize("mapping", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("bits", range(2, 9))
def test_integers_of_torchao_become_ours(bits: int, mapping: str, block: int, tmp_path: Path):
    groups = FEATURES // block
    codes, scale = codes_of(bits), scales_of(groups)
    zero_point = torch.zeros(OUT, groups, dtype=torch.int8)
    if mapping == "asymmetric":
        zero_point[1:3] = torch.tensor([[-1], [1]], dtype=torch.int8)
    record = intx_record(f"int{bits}", [1, block])
    path = write_torchao(
        tmp_path / "theirs.safetensors", record, {"qdata": codes, "scale": scale, "zero_point": zero_point}
    )
    expected = torch.empty(OUT, FEATURES)
    for row in range(OUT):
        for column in range(FEATURES):
            group = column // block
            expected[row, column] = (int(codes[row, column]) - int(zero_point[row, group])) * scale[row, group]
    assert torch.equal(loaded_weight(path), expected)
    artifact = read_artifact(tmp_path / "ours.safetensors")
    spec = artifact.manifest["layers"]["fc"]["weights"]["weight"]
    assert spec["dtype"] == f"int{bits}"
    assert spec["symmetric"] is (mapping == "symmetric")
    assert spec["granularity"] == ("per-channel(0)" if block == FEATURES else "per-group(32)")
    assert torch.equal(artifact.tensors["fc.weight_scale"], scale if block < FEATURES else scale.flatten())
    assert artifact.manifest["kept"] == {"fc.bias": "torchao left it in float"}


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.bfloat16])
def test_int8_of_torchao_becomes_ours(scale_dtype: torch.dtype, tmp_path: Path):
    codes, scale = codes_of(8), scales_of(1).to(scale_dtype)
    parts = {"qdata": codes, "scale": scale, "zero_point": torch.zeros(OUT, 1, dtype=torch.int8)}
    path = write_torchao(tmp_path / "theirs.safetensors", int8_record([1, FEATURES]), parts)
    assert torch.equal(loaded_weight(path), codes * scale.float())
    assert torch.equal(read_artifact(tmp_path / "ours.safetensors").tensors["fc.weight"], codes)


def test_one_scale_for_the_whole_weight_is_read(tmp_path: Path):
    codes, scale = codes_of(8), torch.tensor([[0.5]])
    parts = {"qdata": codes, "scale": scale, "zero_point": torch.zeros(1, 1, dtype=torch.int8)}
    path = write_torchao(tmp_path / "theirs.safetensors", int8_record([OUT, FEATURES]), parts)
    assert torch.equal(loaded_weight(path), codes * 0.5)


def test_float8_of_torchao_becomes_ours(tmp_path: Path):
    codes, scale = torch.randn(OUT, FEATURES).to(torch.float8_e4m3fn), scales_of(1)
    said = {"mm_config": None, "act_quant_kwargs": None, "kernel_preference": "AUTO"}
    record = torchao_record("Float8Tensor", [1, FEATURES], names=["qdata", "scale"], **said)
    path = write_torchao(tmp_path / "theirs.safetensors", record, {"qdata": codes, "scale": scale})
    assert torch.equal(loaded_weight(path), codes.float() * scale)


def parts_of(bits: int = 8, groups: int = 1, **other: Tensor) -> dict[str, Tensor]:
    zero_point = torch.zeros(OUT, groups, dtype=torch.int8)
    return {"qdata": codes_of(bits), "scale": scales_of(groups), "zero_point": zero_point} | other


ROW = [1, FEATURES]
REFUSED = {
    "an input": (int8_record(ROW, act_quant_kwargs={"_type": "x"}), parts_of(), "quantizes the input too"),
    "an input of intx": (intx_record("int8", ROW, activation_quantization="x"), parts_of(), "quantizes the input too"),
    "packed for kernels": (
        torchao_record("Int4Tensor", [1, 32], names=["qdata", "scale"]),
        parts_of(),
        "of the class Int4Tensor",
    ),
    "another scale": (
        torchao_record("MXTensor", [1, 32], names=["qdata", "scale"]),
        parts_of(),
        "of the class MXTensor",
    ),
    "columns": (int8_record([OUT, 1]), parts_of(), "parts of rows are read"),
    "no divisor": (int8_record([1, 48]), parts_of(), "do not divide"),
    "a missing part": (int8_record(ROW), {"qdata": codes_of(8)}, "has not its scale, zero_point"),
    "other parts": (
        torchao_record("Int8Tensor", ROW, names=["qdata", "scale", "pre_scale"]),
        parts_of(pre_scale=torch.ones(1)),
        "of which nothing is known",
    ),
    "codes out of range": (intx_record("int4", ROW), parts_of(5), "codes outside of -8 to 7"),
    "codes of another type": (int8_record(ROW), parts_of(qdata=codes_of(8).short()), "its codes are torch.int16"),
    "unsigned": (intx_record("uint4", ROW), parts_of(4), "its codes are uint4"),
    "few scales": (int8_record([1, 32]), parts_of(), "it has 6 scales"),
    "a scale of zero": (int8_record(ROW), parts_of(scale=torch.zeros(OUT, 1)), "not finite and positive"),
    "a scale that is none": (int8_record(ROW), parts_of(scale=torch.full((OUT, 1), torch.nan)), "not finite"),
    "float zero points": (int8_record(ROW), parts_of(zero_point=torch.full((OUT, 1), 0.5)), "whole numbers"),
    "no record": ("[]", parts_of(), "does not say what it is"),
    "half a record": ('{"_type": "Int8Tensor"}', parts_of(), "does not say what it is made of"),
    "an odd dtype": (int8_record(ROW, dtype="float32"), parts_of(), "gives a dtype as 'float32'"),
    "no dtype of torch": (int8_record(ROW, dtype=dtype_record("nn")), parts_of(), "float dtype of torch"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_none_of_ours_is_refused_by_name_and_nothing_is_written(what: str, tmp_path: Path):
    record, parts, words = REFUSED[what]
    path = write_torchao(tmp_path / "theirs.safetensors", record, parts)
    with pytest.raises(ArtifactError) as raised:
        convert(path, tmp_path / "ours.safetensors")
    assert "'fc.weight'" in str(raised.value)
    assert words in str(raised.value)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_torchao_is_loaded_by_the_name_of_the_format(tmp_path: Path):
    path = write_torchao(tmp_path / "theirs.safetensors", int8_record(ROW), parts_of())
    model = Quantizer(kernel="reference").load(path, Net, format="torchao")
    assert torch.equal(model.fc.dequantized("weight"), codes_of(8) * scales_of(1))


def test_several_files_of_torchao_are_read_by_their_index(tmp_path: Path):
    for number, layer in enumerate(("a", "b")):
        record = {f"{layer}.weight": int8_record(ROW), "tensor_names": json.dumps([f"{layer}.weight"])}
        tensors = {f"{layer}._weight_{part}": tensor for part, tensor in parts_of().items()}
        save_file(tensors, tmp_path / f"shard-{number}.safetensors", record)
    names = {f"{layer}._weight_{part}": f"shard-{n}.safetensors" for n, layer in enumerate("ab") for part in parts_of()}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert recognized(tmp_path) == recognized(tmp_path / "model.safetensors.index.json") == "torchao"
    artifact = TorchaoFormat().load(tmp_path)
    assert set(artifact.manifest["layers"]) == {"a", "b"}


def test_the_command_converts_a_folder_of_optimum_quanto(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "theirs"
    folder.mkdir()
    layers = {"fc": {"weights": "qint8", "activations": "none"}}
    write_quanto(folder, layers, of_quanto(codes_of(8), scales_of(1)))
    assert main(["convert", str(folder), str(tmp_path / "ours.safetensors")]) == 0
    assert "1 quantized layers, 3 tensors" in capsys.readouterr().out
    model = Quantizer(kernel="reference").load(tmp_path / "ours.safetensors", Net)
    assert torch.equal(model.fc.dequantized("weight"), codes_of(8) * scales_of(1))
    assert set(model.state_dict()) == {"fc.weight", "fc.weight_scale", "fc.bias"}


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_a_kernel_of_optimum_quanto_becomes_ours(dtype: torch.dtype, tmp_path: Path):
    codes = torch.randint(-100, 100, (4, 3, 2, 2)).to(dtype)
    scale = torch.rand(4, 1, 1, 1) + 0.1
    layers = {"0": {"weights": "qint8" if dtype == torch.int8 else "qfloat8_e4m3fn", "activations": "none"}}
    path = write_quanto(tmp_path, layers, {"0.weight._data": codes, "0.weight._scale": scale})
    convert(path / "model.safetensors", tmp_path / "ours.pt")
    model = nn.Sequential(nn.Conv2d(3, 4, 2, bias=False))
    loaded = Quantizer(kernel="reference").load(tmp_path / "ours.pt", model)
    assert torch.equal(loaded[0].dequantized("weight"), codes.float() * scale)


@pytest.mark.parametrize(
    ("said", "tensors", "words"),
    [
        ({"weights": "qint4", "activations": "none"}, {}, "its weights are qint4"),
        ({"weights": "qint8", "activations": "qint8"}, {}, "its activations are qint8 too"),
        ({"weights": "qint8"}, {}, "the map says"),
        ({"weights": "qint8", "activations": "none"}, {}, "freeze(model) comes before saving"),
        ({"weights": "none", "activations": "none"}, {}, "no weight that optimum-quanto quantized"),
        (
            {"weights": "qint8", "activations": "none"},
            of_quanto(codes_of(8).short(), scales_of(1)),
            "'fc.weight' cannot be read: its codes are torch.int16",
        ),
        ({"weights": "qint8", "activations": "none"}, of_quanto(codes_of(8), scales_of(2)), "it has 12 scales"),
        (
            {"weights": "qint8", "activations": "none"},
            of_quanto(codes_of(8)[:, :OUT].contiguous(), scales_of(1).T.contiguous()),
            "its scales [1, 6] are not one for each row of the weight [6, 6]",
        ),
    ],
)
def test_layers_of_optimum_quanto_that_are_none_of_ours_are_named(
    said: Mapping[str, str], tensors: Mapping[str, Tensor], words: str, tmp_path: Path
):
    path = write_quanto(tmp_path, {"fc": said}, tensors or {"fc.weight": torch.ones(2, 2)})
    with pytest.raises(ArtifactError) as raised:
        convert(path, tmp_path / "ours.pt")
    assert words in str(raised.value)
    assert not (tmp_path / "ours.pt").exists()


def test_codes_of_which_the_map_says_nothing_are_refused(tmp_path: Path):
    tensors = of_quanto(codes_of(8), scales_of(1)) | {"other.weight._data": codes_of(8)}
    path = write_quanto(tmp_path, {"fc": {"weights": "qint8", "activations": "none"}}, tensors)
    with pytest.raises(ArtifactError, match=r"codes 'other\.weight\._data', of which the map says nothing"):
        convert(path, tmp_path / "ours.pt")


def test_optimum_quanto_without_its_map_is_asked_for_it(tmp_path: Path):
    save_file(of_quanto(codes_of(8), scales_of(1)), tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"has no quanto_qmap\.json or quantization_map\.json: write"):
        OptimumQuantoFormat().load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}', "\xff"])
def test_a_damaged_map_is_an_error(text: str, tmp_path: Path):
    write_quanto(tmp_path, {}, of_quanto(codes_of(8), scales_of(1)))
    (tmp_path / "quanto_qmap.json").write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"quanto_qmap\.json"):
        OptimumQuantoFormat().load(tmp_path)


def test_our_own_files_and_plain_ones_are_nobody_elses(tmp_path: Path):
    model = Net()
    save_model(model, tmp_path / "plain.safetensors")
    Quantizer("int8-weight-only").quantize(model).save(tmp_path / "ours.safetensors")
    (tmp_path / "text.safetensors").write_text("not tensors")
    for name in ("plain.safetensors", "ours.safetensors", "text.safetensors", "missing.safetensors", "x.pt", ""):
        assert recognized(tmp_path / name) is None


class TestTorchao(FormatSuite):
    """Tensors of every kind stand beside a quantized weight."""

    suffix = ".safetensors"
    writes = False

    def make(self) -> TorchaoFormat:
        return Whole()

    def example(self, artifact: Artifact, path: Path) -> None:
        metadata = {"kept": json.dumps(artifact.manifest)}
        tensors = {name: tensor.clone().contiguous() for name, tensor in artifact.tensors.items()}
        tensors |= {f"fc._weight_{part}": tensor for part, tensor in parts_of().items()}
        names = json.dumps(["fc.weight"])
        save_file(tensors, path, metadata | {"fc.weight": int8_record(ROW), "tensor_names": names})


class Whole(TorchaoFormat):
    """Gives the tensors beside the weight, and the suite's manifest in place of the one that is made for the weight."""

    def load(self, path: Path) -> Artifact:
        tensors = dict(super().load(path).tensors)
        for name in ("fc.weight", "fc.weight_scale"):
            del tensors[name]
        return Artifact(tensors, json.loads(metadata_of(path)["kept"]))
