"""Quantized models as files: saved, read by gguf's reader, loaded, converted; and layers that do not fit."""

import copy

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader
from gguf.quants import dequantize
from mono_quant import Quantizer, convert
from mono_quant.cli import main
from mono_quant.core.tensors import same_bits
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.saved import read_artifact
from torch import nn

from mono_quant_gguf import GGUFFormat

ROUNDED = {"name": "gguf", "round_scales": True}


class Net(nn.Module):
    """An embedding that is tied to the head, layers that fit, a kernel that fits."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 64)
        self.conv = nn.Conv1d(64, 64, 3, padding=1)
        self.norm = nn.LayerNorm(64)
        self.fc = nn.Linear(64, 64)
        self.head = nn.Linear(64, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.conv(self.embed(tokens).transpose(1, 2)).transpose(1, 2)
        return self.head(self.fc(self.norm(x)).relu())


def net():
    torch.manual_seed(0)
    return Net().eval()


def batches():
    return [torch.arange(24).reshape(2, 12) + start for start in range(4)]


def quantized(scheme, model=None, data=None):
    quantizer = Quantizer(scheme, kernel="reference", on_failure="ignore", show_progress=False)
    return quantizer.quantize(model or net(), batches() if data is None else data)


SCHEMES = {
    "int8-static": ("int8-static", {Kind.Q8_0}),
    "int8-dynamic": ("int8-dynamic", {Kind.Q8_0}),
    "int8-weight-only": ("int8-weight-only", {Kind.Q8_0}),
    "int8 in groups": ({"name": "int8-weight-only", "granularity": "per-group", "group_size": 32}, {Kind.Q8_0}),
    "int5-weight-only": ({"name": "int5-weight-only", "group_size": 32}, {Kind.Q5_1}),
    "int4-weight-only": ({"name": "int4-weight-only", "group_size": 64}, {Kind.Q4_1}),
    "int4, symmetric": ({"name": "int4-weight-only", "group_size": 32, "symmetric": True}, {Kind.Q4_0}),
    "float16": ("float16", {Kind.F16}),
    "bfloat16": ("bfloat16", {Kind.BF16}),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_a_model_is_saved_read_and_loaded(name, tmp_path):
    scheme, kinds = SCHEMES[name]
    result = quantized(scheme)
    path = tmp_path / "model.gguf"
    result.save(path, ROUNDED)
    loaded = Quantizer(kernel="reference", show_progress=False).load(path, net)
    reader = GGUFReader(path)
    found = {tensor.name: tensor for tensor in reader.tensors}
    layers = read_artifact(path).manifest["layers"]
    assert {found[f"{layer}.weight"].tensor_type for layer in layers if f"{layer}.weight" in found} == kinds
    for layer in layers:
        weight = loaded.get_submodule(layer).weight
        weight = (
            loaded.get_submodule(layer).dequantized("weight") if weight.dtype in {torch.int8, torch.uint8} else weight
        )
        stored = found.get(f"{layer}.weight", found["embed.weight"])
        read = torch.from_numpy(dequantize(stored.data, stored.tensor_type))
        assert torch.equal(read.reshape(weight.shape), weight.float())
    out, ours = loaded(batches()[0]), result.model(batches()[0])
    assert (out - ours).square().mean() <= 2e-4 * ours.square().mean()
    if name in {"float16", "bfloat16"}:
        assert torch.equal(out, ours)


@pytest.mark.parametrize("name", ["int8-static", "int4-weight-only", "float16"])
def test_converting_there_and_back_changes_no_bit(name, tmp_path):
    quantized(SCHEMES[name][0]).save(tmp_path / "first.gguf", ROUNDED)
    convert(tmp_path / "first.gguf", tmp_path / "second.safetensors")
    convert(tmp_path / "second.safetensors", tmp_path / "third.gguf")
    convert(tmp_path / "third.gguf", tmp_path / "fourth.safetensors")
    assert (tmp_path / "second.safetensors").read_bytes() == (tmp_path / "fourth.safetensors").read_bytes()
    one, other = (read_artifact(tmp_path / file) for file in ("second.safetensors", "third.gguf"))
    assert one.manifest == other.manifest
    assert set(one.tensors) == set(other.tensors)
    assert all(same_bits(tensor, other.tensors[key]) for key, tensor in one.tensors.items())


def test_the_command_converts_and_says_what_to_do(tmp_path, capsys):
    quantized("int8-weight-only").save(tmp_path / "model.safetensors")
    source, target = str(tmp_path / "model.safetensors"), tmp_path / "model.gguf"
    assert main(["convert", source, str(target)]) == 3
    said = capsys.readouterr().err
    assert "layer 'fc': 64 of 64 scales of fc.weight do not fit blocks" in said
    assert 'format={"name": "gguf", "round_scales": True}' in said
    assert not target.exists()
    assert main(["convert", source, str(target), "--format", '{"name": "gguf", "round_scales": true}']) == 0
    assert main(["inspect", str(target)]) == 0
    assert "gguf_largest_scale_change 0.000" in capsys.readouterr().out


def odd_layers():
    torch.manual_seed(0)
    return nn.ModuleDict({
        "fits": nn.Linear(64, 4),
        "narrow": nn.Linear(40, 4),
        "kernel": nn.Conv2d(3, 4, 3),
        "turned": nn.ConvTranspose1d(32, 4, 8),
        "fits too": nn.Conv2d(32, 4, 3),
    })  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "refused"),
    [
        (
            "int8-weight-only",
            {
                "narrow": "each channel has 40 weights, which is not a multiple of 32; keep the layer in float",
                "kernel": "each channel has 27 weights",
                "turned": "its channels run along axis 1",
            },
        ),
        (
            {"name": "int8-weight-only", "symmetric": False},
            {"fits": "8-bit blocks have no zero point; use symmetric=True"},
        ),
        (
            {"name": "int4-weight-only", "group_size": 16, "misfit": "pad"},
            {"fits": "groups of 16 are not made of blocks of 32; use a group_size that is a multiple"},
        ),
        ({"name": "int4-weight-only", "group_size": 32, "misfit": "pad"}, {"narrow": "each channel has 40 weights"}),
        *(
            (
                {"name": f"int{bits}-weight-only", "group_size": 32, "misfit": "pad"},
                {"fits": f"5 or 8 bits, not {bits}"},
            )
            for bits in (2, 3, 6, 7)
        ),
        ("float8-weight-only", {"fits": "GGUF has no float8_e4m3 with a scale"}),
    ],
)
def test_layers_that_do_not_fit_are_named_with_what_to_do(scheme, refused, tmp_path):
    quantizer = Quantizer(scheme, kernel="reference", on_failure="ignore", show_progress=False)
    model = odd_layers()
    plan = quantizer.plan(model)
    form = GGUFFormat(round_scales=True)
    found = form.refusals(plan.layers)
    for name, words in refused.items():
        assert found[name].startswith("its weight is ")
        assert words in found[name]
    if scheme == "int8-weight-only":
        assert set(found) == set(refused)
        result = quantizer.quantize(odd_layers())
        with pytest.raises(ArtifactError, match=r"layer 'narrow': narrow\.weight is int8 symmetric") as raised:
            result.save(tmp_path / "model.gguf", ROUNDED)
        assert "'fits'" not in str(raised.value)
        result.save(tmp_path / "model.safetensors")
        with pytest.raises(ArtifactError, match=r"model\.gguf is not written"):
            convert(tmp_path / "model.safetensors", tmp_path / "model.gguf", ROUNDED)
        assert not (tmp_path / "model.gguf").exists()


def test_what_is_refused_by_the_plan_alone_is_refused_with_the_tensors_too():
    for scheme, _ in SCHEMES.values():
        result = quantized(scheme)
        assert GGUFFormat().refusals(result.plan.layers) == {}


def test_keys_of_users_stand_in_the_file(tmp_path):
    keys = {
        "general.architecture": "llama", "general.name": "größe", "llama.block_count": 2, "llama.rope.freq_base": 1e4,
        "llama.tied": True, "a.list": ["x", "y"], "negative": -1, "large": 2**40,
    }  # fmt: skip
    result = quantized("float16")
    result.save(tmp_path / "model.gguf", {"name": "gguf", "metadata": keys})
    fields = GGUFReader(tmp_path / "model.gguf").fields
    assert {key: fields[key].contents() for key in keys} == keys
    types = {key: fields[key].types[0] for key in keys}
    assert types["llama.block_count"] == gguf.GGUFValueType.UINT32
    assert types["llama.rope.freq_base"] == gguf.GGUFValueType.FLOAT32
    assert types["llama.tied"] == gguf.GGUFValueType.BOOL
    loaded = read_artifact(tmp_path / "model.gguf")
    assert set(loaded.tensors) == set(result.model.state_dict()) - {"head.weight"}


@pytest.mark.parametrize(
    "metadata",
    [
        {"mono_quant.manifest": "x"}, {"": "x"}, {1: "x"}, {"a": None}, {"a": []}, {"a": ""}, {"a": {"b": 1}},
        {"a": [1, "x"]}, {"general.architecture": 1}, {"general.alignment": 64}, ["a"], {"a": 2**70},
        {"a": "\ud800"}, {"a": [2**31]}, {"a": 1e39}, {"a": [1e39]},
    ],
)  # fmt: skip
def test_keys_that_have_no_place_are_refused(metadata):
    with pytest.raises(ConfigurationError, match="metadata"):
        GGUFFormat(metadata=metadata)


def test_an_option_that_cannot_be_meant_is_refused():
    with pytest.raises(ConfigurationError, match="round_scales must be true or false, got 1"):
        GGUFFormat(round_scales=1)


def test_a_file_says_nothing_of_an_architecture_that_nobody_named(tmp_path):
    quantized("float16").save(tmp_path / "model.gguf")
    assert GGUFReader(tmp_path / "model.gguf").fields["general.architecture"].contents() == "unknown"


def test_tensors_of_many_axes_and_a_kernel_of_five_come_back(tmp_path):
    model = nn.Sequential(nn.Conv3d(32, 4, 2), nn.Conv3d(3, 4, 2))
    model.register_buffer("steps", torch.tensor(3, dtype=torch.int64))
    quantizer = Quantizer("int8-weight-only", exclude=["1"], kernel="reference", show_progress=False)
    result = quantizer.quantize(model)
    result.save(tmp_path / "model.gguf", ROUNDED)
    loaded = quantizer.load(tmp_path / "model.gguf", copy.deepcopy(model)).state_dict()
    expected = result.model.state_dict()
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[key], expected[key]) for key in expected if key != "0.weight_scale")
    assert all(tensor.shape.size <= 4 for tensor in GGUFReader(tmp_path / "model.gguf").tensors), "as ggml has it"
