"""Folders that compressed-tensors wrote, as llm-compressor does, read by mono_quant."""

import json

import pytest
import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    apply_quantization_config,
)
from compressed_tensors.quantization.utils import calculate_qparams
from models import layers_of, llama, output, quantized
from mono_quant import Quantizer, load_model, save_model
from mono_quant.errors import ArtifactError
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.filterwarnings("ignore")

INT8 = {"num_bits": 8}
TOKEN = {"num_bits": 8, "strategy": "token", "dynamic": True}
STATIC = {"num_bits": 8, "strategy": "tensor"}
FLOAT8 = {"num_bits": 8, "type": "float", "strategy": "channel"}
CASES = {
    "W4A16": ("int4-weight-only", {"num_bits": 4, "strategy": "group", "group_size": 16}, None),
    "W4A16_ASYM": (
        "int4-weight-only",
        {"num_bits": 4, "strategy": "group", "group_size": 16, "symmetric": False},
        None,
    ),
    "W3A16, channel": ("int3-weight-only", {"num_bits": 3, "strategy": "channel", "symmetric": False}, None),
    "W6A16, tensor": ("int6-weight-only", {"num_bits": 6, "strategy": "tensor"}, None),
    "W8A16": ("int8-weight-only", INT8 | {"strategy": "channel"}, None),
    "W8A8": ("int8-dynamic", INT8 | {"strategy": "channel"}, TOKEN),
    "W8A8, tensor": ("int8-dynamic", INT8 | {"strategy": "tensor"}, TOKEN),
    "W4A8": ("int8-dynamic", {"num_bits": 4, "strategy": "channel"}, TOKEN),
    "W8A8, static": ("int8-static", INT8 | {"strategy": "channel"}, STATIC),
    "W8A8, static, asymmetric": ("int8-static", INT8 | {"strategy": "tensor"}, STATIC | {"symmetric": False}),
    "FP8A16": ("float8-weight-only", FLOAT8, None),
}
"""Name → our scheme, arguments of weights and of inputs."""

RANGES_OF_ITS_OWN = {"W8A8", "W8A8, tensor", "W4A8"}


def written_by_them(path, weights, inputs, *, dtype=torch.float32, **saving):
    """A model that the library quantized, compressed and saved, still in memory."""
    model = llama(dtype)
    scheme = QuantizationScheme(
        targets=["Linear"],
        weights=QuantizationArgs(**weights),
        input_activations=None if inputs is None else QuantizationArgs(**inputs),
    )
    config = QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"], quantization_status="frozen")
    apply_quantization_config(model, config, show_progress=False)
    for layer in model.modules():
        if getattr(layer, "quantization_scheme", None) is not None:
            set_qparams(layer, layer.quantization_scheme.weights)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(path, **saving)
    compressor.update_config(path)
    compressor.decompress_model(model)
    return model


def set_qparams(layer, arguments):
    weight = layer.weight.data.float()
    views = {
        "group": (len(weight), -1, arguments.group_size or 1),
        "channel": (len(weight), 1, -1),
        "tensor": (1, 1, -1),
    }
    groups = weight.reshape(views[arguments.strategy])
    scale, zero_point = calculate_qparams(groups.amin(-1), groups.amax(-1), arguments)
    layer.weight_scale.data.copy_(scale.reshape(layer.weight_scale.shape))
    if hasattr(layer, "weight_zero_point"):
        layer.weight_zero_point.data.copy_(zero_point.reshape(layer.weight_scale.shape))
    for name, value in (("input_scale", 0.02), ("input_zero_point", -7)):
        if hasattr(layer, name):
            getattr(layer, name).data.fill_(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_their_layers_become_ours(case, dtype, tmp_path):
    scheme, weights, inputs = CASES[case]
    theirs = written_by_them(tmp_path / "model", weights, inputs, dtype=dtype)
    ours = Quantizer().load(tmp_path / "model", llama(dtype))
    layers = layers_of(ours)
    assert len(layers) == 14
    assert {plan["scheme"] for plan in _manifest(tmp_path / "model")["layers"].values()} == {scheme}
    modules = dict(theirs.named_modules())
    for name, layer in layers.items():
        assert torch.equal(layer.dequantized().to(dtype), modules[name].weight.data), name
    expected, actual = output(theirs), output(ours)
    noise = (expected - actual).square().sum()
    decibels = 10 * torch.log10(expected.square().sum() / noise) if noise else torch.inf
    assert decibels > (20 if case in RANGES_OF_ITS_OWN or dtype == torch.bfloat16 else 45)


def _manifest(path):
    return Quantizer().components.format_for(path).load(path).manifest


def test_several_shards(tmp_path):
    _scheme, weights, inputs = CASES["W4A16_ASYM"]
    theirs = written_by_them(tmp_path / "model", weights, inputs, max_shard_size="40KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    ours = Quantizer().load(tmp_path / "model", llama())
    torch.testing.assert_close(output(ours), output(theirs), rtol=1e-3, atol=3e-3)


def test_what_is_read_can_be_written_and_read_again(tmp_path):
    written_by_them(tmp_path / "theirs", *CASES["W4A16"][1:])
    ours = Quantizer().load(tmp_path / "theirs", llama())
    save_model(ours, tmp_path / "ours", format="compressed-tensors")
    mine, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    assert set(mine) == set(theirs)
    assert all(torch.equal(mine[name], tensor) for name, tensor in theirs.items())


def test_load_model_gives_the_tensors_as_ours(tmp_path):
    written_by_them(tmp_path / "model", *CASES["W8A16"][1:])
    state = load_model(tmp_path / "model")
    assert state["model.layers.0.mlp.up_proj.weight"].dtype == torch.int8
    assert state["model.layers.0.mlp.up_proj.weight_scale"].shape == (112,)
    assert state["lm_head.weight"].dtype == torch.float32


def test_inputs_of_float8_are_refused_or_left_out(tmp_path):
    theirs = written_by_them(
        tmp_path / "model", FLOAT8, {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
    )
    with pytest.raises(ArtifactError, match=r"inputs as float8; .* option inputs=\"float\""):
        Quantizer().load(tmp_path / "model", llama())
    ours = Quantizer().load(tmp_path / "model", llama(), format={"name": "compressed-tensors", "inputs": "float"})
    modules = dict(theirs.named_modules())
    assert all(torch.equal(layer.dequantized(), modules[name].weight) for name, layer in layers_of(ours).items())


@pytest.fixture
def folder(tmp_path):
    """One of theirs, and a way to change what it says."""
    path = tmp_path / "model"
    written_by_them(path, *CASES["W4A16"][1:])

    def change(config=None, group=None, weights=None, tensors=None):
        said = json.loads((path / "config.json").read_text())
        quantization = said["quantization_config"]
        quantization |= config or {}
        if group or weights:
            groups = quantization["config_groups"]
            changed = {name: one | (group or {}) for name, one in groups.items()}
            new = {name: {"weights": one["weights"] | (weights or {})} for name, one in groups.items()}
            quantization["config_groups"] = {name: changed[name] | new[name] for name in groups}
        (path / "config.json").write_text(json.dumps(said))
        if tensors:
            stored = load_file(path / "model.safetensors") | {f"{LAYER}.{name}": new for name, new in tensors.items()}
            there = {name: tensor for name, tensor in stored.items() if tensor is not None}
            save_file(there, path / "model.safetensors")
        return path

    return change


LAYER = "model.layers.0.mlp.up_proj"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": {"format": "nvfp4-pack-quantized"}}, "'nvfp4-pack-quantized' is none that is read"),
        ({"group": {"format": "mxfp4-pack-quantized"}}, "'mxfp4-pack-quantized' is none that is read"),
        ({"config": {"kv_cache_scheme": {"num_bits": 8}}}, "quantized with a kv_cache_scheme"),
        ({"config": {"transform_config": {"config_groups": {}}}}, "quantized with a transform_config"),
        ({"config": {"sparsity_config": {"format": "sparse-24"}}}, "quantized with a sparsity_config"),
        ({"config": {"quantization_status": "frozen"}}, "'frozen', and only 'compressed'"),
        ({"config": {"config_groups": {"W4A16": ["Linear"]}}}, "'W4A16' is a preset's name"),
        ({"config": {"config_groups": {}}}, "has no config_groups"),
        ({"group": {"output_activations": {"num_bits": 8}}}, "quantizes outputs"),
        ({"group": {"targets": "Linear"}}, "no list of targets"),
        ({"group": {"targets": ["re:.*mlp.*"]}}, "no config group is for it"),
        ({"group": {"targets": ["re:("]}}, "no regular expression"),
        ({"weights": {"strategy": "block", "block_structure": [2, 2]}}, "not by block"),
        ({"weights": {"strategy": "tensor_group"}}, "not by tensor_group"),
        ({"weights": {"actorder": "group"}}, "actorder"),
        ({"weights": {"num_bits": 1}}, "not of 1"),
        ({"weights": {"num_bits": 16}}, "not of 16"),
        ({"weights": {"type": "float", "num_bits": 4}}, "float weights of 4 bits"),
        ({"weights": {"num_bits": "4"}}, "of a kind that mono_quant has not"),
        ({"weights": {"dynamic": "local"}}, "of a kind that mono_quant has not"),
        ({"weights": {"num_bits": 5}}, "weight_packed' is torch.int32"),
        ({"weights": {"group_size": 32}}, "no multiple of the group size 32"),
        ({"weights": {"group_size": 8}}, "weight_scale' is torch.float32"),
        ({"weights": {"symmetric": False}}, "has no 'model.layers.0.mlp.down_proj.weight_zero_point'"),
        ({"config": {"ignore": [LAYER]}}, "stands in 'ignore' too"),
        ({"tensors": {"weight_packed": None}}, "no weight or weight_packed"),
        ({"tensors": {"weight_g_idx": torch.zeros(48, dtype=torch.int32)}}, "weight_g_idx"),
        ({"tensors": {"weight_shape": torch.tensor([112, 47])}}, "no multiple"),
        ({"tensors": {"weight_shape": torch.tensor([112, -48])}}, "no matrix"),
        ({"tensors": {"weight_shape": torch.tensor([112, 2**40])}}, "weight_packed' is"),
        ({"tensors": {"weight_scale": torch.zeros(112, 3)}}, "not finite and positive"),
        ({"tensors": {"weight_scale": torch.ones(112, 3, dtype=torch.int32)}}, "weight_scale is torch.int32"),
    ],
)  # fmt: skip
def test_what_mono_quant_has_not_is_refused_by_name(folder, changes, words):
    path = folder(**changes)
    with pytest.raises(ArtifactError, match="") as caught:
        Quantizer().load(path, llama())
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_zero_point_of_an_input_that_is_no_whole_number_is_refused(tmp_path):
    quantized(llama(), scheme="int8-static").save(tmp_path, format="compressed-tensors")
    tensors = load_file(tmp_path / "model.safetensors")
    name = f"{LAYER}.input_zero_point"
    save_file(tensors | {name: tensors[name].float() + 0.5}, tmp_path / "model.safetensors")  # and no manifest of ours
    with pytest.raises(ArtifactError, match=rf"{LAYER}.*its input_zero_point is no whole number"):
        Quantizer().load(tmp_path, llama())


def test_exact_names_come_before_patterns_and_these_before_classes(folder):
    weights = {"num_bits": 4, "strategy": "group", "group_size": 16}
    wrong = {"weights": weights | {"num_bits": 3}}
    groups = {
        "a": {"targets": ["Linear"], **wrong},
        "b": {"targets": ["re:.*self_attn.*", "re:.*mlp.(up|gate)"], "weights": weights},
        "c": {"targets": ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"], "weights": weights},
    }
    path = folder(config={"config_groups": groups})
    assert len(layers_of(Quantizer().load(path, llama()))) == 14


def test_a_named_layer_without_tensors_is_an_error(folder):
    path = folder(group={"targets": ["Linear", "model.layers.7.mlp.up_proj"]})
    with pytest.raises(
        ArtifactError, match=r"'model.layers.7.mlp.up_proj' is quantized by config.json, and has no scale"
    ):
        Quantizer().load(path, llama())
