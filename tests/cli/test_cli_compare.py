"""``monoquant compare``: two files, layer by layer."""

import math
from pathlib import Path

import pytest
import torch
from cli_models import images, mlp, net, rows
from command_line import Commands
from small_models import Tied, sqnr
from torch import nn

from mono_quant import Quantizer, load_model, save_model
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api.artifact import Artifact

LAYERS = ["0", "2"]


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    save_model(mlp(), tmp_path / "float.pt")
    return tmp_path / "float.pt"


def quantized(path: Path, scheme: object = "int8-dynamic") -> Path:
    Quantizer(scheme, validators=()).quantize(mlp()).save(path)
    return path


def test_a_float_file_beside_its_quantized_one(tmp_path: Path, floats: Path, monoquant: Commands):
    ints = quantized(tmp_path / "int8.safetensors")
    shown = monoquant("compare --json", floats, ints).json()
    assert [file["bytes"] for file in shown["files"]] == [floats.stat().st_size, ints.stat().st_size]
    layers = {layer["name"]: layer for layer in shown["comparison"]["layers"]}
    assert list(layers) == LAYERS
    assert layers["0"]["first"] == {"dtypes": {"float32": 2}, "bytes": 4 * (8 * 16 + 16)}
    assert layers["0"]["second"] == {"dtypes": {"float32": 2, "int8": 1}, "bytes": 8 * 16 + 4 * (16 + 16)}
    before, after = (sum(t.nbytes for t in load_model(path).values()) for path in (floats, ints))
    comparison = shown["comparison"]
    assert (comparison["first"]["bytes"], comparison["second"]["bytes"]) == (before, after)
    assert comparison["ratio"] == before / after


@pytest.mark.parametrize(
    "scheme",
    [
        "int8-dynamic",
        "int8-weight-only",
        {"name": "int4-weight-only", "group_size": 4},
        {"name": "int3-weight-only", "group_size": 8, "symmetric": False},
        "float16",
    ],
    ids=str,
)
def test_the_sqnr_is_that_of_all_weights_of_a_layer(tmp_path: Path, floats: Path, monoquant: Commands, scheme: object):
    ints = quantized(tmp_path / "codes.safetensors", scheme)
    comparison = monoquant("compare --json", floats, ints).json()["comparison"]
    exact, lossy = mlp().state_dict(), Quantizer().load(ints, mlp)
    parts = []
    for layer in comparison["layers"]:
        module = lossy.get_submodule(layer["name"])
        names = [f"{layer['name']}.{parameter}" for parameter in ("weight", "bias")]
        pair = [torch.cat([exact[name].flatten() for name in names]) for _ in range(2)]
        weight, bias = module.dequantized("weight"), module.bias
        pair[1] = torch.cat([weight.flatten(), bias.float().flatten()])
        assert layer["sqnr_db"] == pytest.approx(sqnr(*pair), abs=1e-9)
        parts.append(pair)
    whole = [torch.cat(side) for side in zip(*parts, strict=True)]
    assert comparison["sqnr_db"] == pytest.approx(sqnr(*whole), abs=1e-9)


def test_a_file_equals_itself(tmp_path: Path, monoquant: Commands):
    ints = quantized(tmp_path / "int8.safetensors")
    comparison = monoquant("compare --json", ints, ints).json()["comparison"]
    assert [layer["sqnr_db"] for layer in comparison["layers"]] == ["inf", "inf"]
    assert (comparison["sqnr_db"], comparison["ratio"]) == ("inf", 1.0)


def test_two_quantized_files_are_compared_by_what_their_codes_stand_for(tmp_path: Path, monoquant: Commands):
    eight = quantized(tmp_path / "int8.safetensors", "int8-weight-only")
    three = quantized(tmp_path / "int3.safetensors", {"name": "int3-weight-only", "group_size": 8})
    comparison = monoquant("compare --json", eight, three).json()["comparison"]
    assert comparison["ratio"] > 1
    assert 5 < comparison["sqnr_db"] < 25


def test_layers_that_a_rewrite_has_changed_are_not_compared(tmp_path: Path, monoquant: Commands):
    save_model(net(), tmp_path / "float.safetensors")
    Quantizer().quantize(net(), images()).save(tmp_path / "int8.safetensors")
    shown = monoquant("compare --json", tmp_path / "float.safetensors", tmp_path / "int8.safetensors").json()
    layers = {layer["name"]: layer for layer in shown["comparison"]["layers"]}
    assert layers["conv"]["sqnr_db"] is None
    assert layers["bn"]["second"] is None
    assert layers["head"]["sqnr_db"] > 30
    assert shown["comparison"]["sqnr_db"] == layers["head"]["sqnr_db"]


def test_layers_of_one_file_only_are_listed(tmp_path: Path, floats: Path, monoquant: Commands):
    other = nn.Sequential(mlp()[0], nn.Identity(), nn.Identity(), nn.Linear(16, 2))
    save_model(other, tmp_path / "other.safetensors")
    comparison = monoquant("compare --json", floats, tmp_path / "other.safetensors").json()["comparison"]
    sides = {layer["name"]: (layer["first"] is None, layer["second"] is None) for layer in comparison["layers"]}
    assert sides == {"0": (False, False), "2": (False, True), "3": (True, False)}
    assert comparison["layers"][0]["sqnr_db"] == "inf"


def test_a_tensor_of_several_names_weighs_once_and_is_compared_under_each(tmp_path: Path, monoquant: Commands):
    model = Tied()
    save_model(model, tmp_path / "tied.safetensors")
    comparison = monoquant(f"compare --json {tmp_path / 'tied.safetensors'} {tmp_path / 'tied.safetensors'}").json()
    whole = comparison["comparison"]
    assert whole["first"]["bytes"] == sum(parameter.nbytes for parameter in model.parameters())
    layers = {layer["name"]: layer for layer in whole["layers"]}
    assert layers["head"]["first"] == {"dtypes": {"float32": 1}, "bytes": 0}
    assert layers["head"]["sqnr_db"] == "inf"


def test_the_table_has_a_line_for_each_layer_and_one_for_all(tmp_path: Path, floats: Path, monoquant: Commands):
    ints = quantized(tmp_path / "int8.safetensors")
    lines = monoquant("compare", floats, ints).out.splitlines()
    assert lines[0].split() == ["layer", "first", "bytes", "second", "bytes", "SQNR", "dB"]
    assert [line.split()[0] for line in lines[1:]] == [*LAYERS, "all"]
    assert lines[1].split()[1:5] == ["float32", "576", "float32+int8", "256"]


def test_weights_that_are_not_finite_give_no_number(tmp_path: Path, floats: Path, monoquant: Commands):
    broken = mlp()
    broken[0].weight.data[0, 0] = math.nan
    save_model(broken, tmp_path / "broken.pt")
    comparison = monoquant("compare --json", floats, tmp_path / "broken.pt").json()["comparison"]
    assert [layer["sqnr_db"] for layer in comparison["layers"]] == ["nan", "inf"]


def test_an_empty_file_has_no_ratio(tmp_path: Path, floats: Path, monoquant: Commands):
    save_model({}, tmp_path / "empty.safetensors")
    comparison = monoquant("compare --json", floats, tmp_path / "empty.safetensors").json()["comparison"]
    assert (comparison["ratio"], comparison["sqnr_db"]) == (None, None)


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("0.weight", torch.zeros(3, dtype=torch.int8), "0.weight must be torch.int8[16, 8]"),
        ("0.weight", torch.zeros(16, 8), "0.weight must be torch.int8[16, 8]"),
        ("2.weight_scale", None, "2.weight_scale must be torch.float32[8]"),
        ("0.weight_scale", torch.full((16,), math.nan), "0.weight_scale is not finite and positive"),
        ("0.weight_scale", torch.zeros(16), "0.weight_scale is not finite and positive"),
    ],
    ids=["shape", "dtype", "missing", "NaN", "zero"],
)
def test_tensors_that_are_not_as_the_manifest_says_are_refused(
    tmp_path: Path, monoquant: Commands, name: str, tensor: torch.Tensor | None, words: str
):
    whole = quantized(tmp_path / "int8.safetensors")
    artifact = SafetensorsFormat().load(whole)
    tensors = {key: value for key, value in artifact.tensors.items() if key != name}
    tensors |= {} if tensor is None else {name: tensor}
    broken = tmp_path / "broken.safetensors"
    SafetensorsFormat().save(Artifact(tensors, artifact.manifest), broken)
    output = tmp_path / "float.safetensors"
    for command in (("compare", whole, broken), ("dequantize", broken, "-o", output)):
        ran = monoquant(*command)
        assert (ran.code, ran.out) == (3, "")
        assert str(broken) in ran.err
        assert words in ran.err
    assert not output.exists()


class Sequences(nn.Module):
    """Layers with several weights each, some of them in layers inside."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 8, num_layers=2, bidirectional=True)
        self.attention = nn.MultiheadAttention(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x)
        return self.attention(y, y, y)[0]


def test_layers_with_several_weights_are_compared_by_all_of_them(tmp_path: Path, monoquant: Commands):
    model = Sequences()
    save_model(model, tmp_path / "float.safetensors")
    Quantizer("int8-weight-only").quantize(model).save(tmp_path / "int8.safetensors")
    command = f"compare --json {tmp_path / 'float.safetensors'} {tmp_path / 'int8.safetensors'}"
    comparison = monoquant(command).json()["comparison"]
    layers = {layer["name"]: layer for layer in comparison["layers"]}
    assert all(30 < layer["sqnr_db"] < 60 for layer in layers.values())
    lossy = Quantizer().load(tmp_path / "int8.safetensors", model)
    stored = sum(tensor.nbytes for tensor in lossy.state_dict().values())
    assert comparison["second"]["bytes"] == sum(layer["second"]["bytes"] for layer in layers.values()) == stored


def test_the_figures_do_not_depend_on_the_data(tmp_path: Path, floats: Path, monoquant: Commands):
    Quantizer().quantize(mlp(), rows()).save(tmp_path / "int8.safetensors")
    comparison = monoquant("compare --json", floats, tmp_path / "int8.safetensors").json()["comparison"]
    assert [layer["second"]["dtypes"] for layer in comparison["layers"]] == [{"int8": 1, "float32": 3, "int32": 1}] * 2
