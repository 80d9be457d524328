"""What a folder holds besides the layers: its configuration, ties, clashing names, and what the manifest keeps."""

import json

import pytest
import torch
from models import SCHEMES, layers_of, llama, output, quantized
from mono_quant import Quantizer, convert, load_model, save_model
from mono_quant.errors import ArtifactError
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api import Artifact
from mono_quant.saved import read_artifact
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from mono_quant_compressed_tensors import CompressedTensorsFormat

FORMAT = "compressed-tensors"


def bits(tensor):
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8)


def assert_same_state(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert tensor.shape == theirs[name].shape
        assert torch.equal(bits(tensor), bits(theirs[name])), name


@pytest.mark.parametrize("case", SCHEMES)
def test_a_model_comes_back_bit_for_bit(case, tmp_path):
    result = quantized(llama(), **SCHEMES[case])
    result.save(tmp_path / "model", format=FORMAT)
    loaded = Quantizer().load(tmp_path / "model", llama())
    assert_same_state(result.model, loaded)
    assert torch.equal(output(result.model), output(loaded))


def test_ties_come_back(tmp_path):
    result = quantized(llama(tied=True), **SCHEMES["int4"])
    result.save(tmp_path / "model", format=FORMAT)
    loaded = Quantizer().load(tmp_path / "model", llama(tied=True))
    assert_same_state(result.model, loaded)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


class Twice(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(16, 16), nn.Linear(16, 16)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.other(self.one(x))


def test_quantized_ties_have_their_tensors_under_both_names_and_come_back(tmp_path):
    model = Twice().eval()
    result = Quantizer({"name": "int4-weight-only", "group_size": 8}, validators=(), show_progress=False).quantize(
        model
    )
    result.save(tmp_path / "model", format=FORMAT)
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert torch.equal(stored["one.weight_packed"], stored["other.weight_packed"])
    loaded = Quantizer().load(tmp_path / "model", Twice())
    assert_same_state(result.model, loaded)
    x = torch.randn(3, 16)
    assert torch.equal(loaded(x), result.model(x))


class Folded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Linear(32, 16)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).relu())


def test_layers_that_an_algorithm_rewrote_come_back(tmp_path):
    model = Folded().eval()
    model.norm.running_mean.normal_()
    data = [torch.randn(8, 16) for _ in range(3)]
    result = Quantizer("int8-static", validators=(), show_progress=False).quantize(model, data)
    assert isinstance(result.model.norm, nn.Identity)
    result.save(tmp_path / "model", format=FORMAT)
    loaded = Quantizer().load(tmp_path / "model", Folded())
    assert isinstance(loaded.norm, nn.Identity)
    assert_same_state(result.model, loaded)
    assert torch.equal(loaded(data[0]), result.model(data[0]))


def test_half_precision_layers_are_ordinary_tensors(tmp_path):
    model = nn.Sequential(nn.Conv1d(3, 4, 2), nn.Flatten(), nn.Linear(12, 8)).eval()
    result = Quantizer("float16", validators=(), show_progress=False).quantize(model)
    result.save(tmp_path / "model", format=FORMAT)
    assert json.loads((tmp_path / "model" / "config.json").read_text()) == {}
    loaded = Quantizer().load(
        tmp_path / "model", nn.Sequential(nn.Conv1d(3, 4, 2), nn.Flatten(), nn.Linear(12, 8)), format=FORMAT
    )
    assert_same_state(result.model, loaded)


def test_the_config_of_the_model_stays_as_it_was(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    before = '{"b": 1, "a": [1.5, {"ö": null}], "limits": [0.0, Infinity], "quantization_config": {"old": true}}'
    (path / "config.json").write_text(before, encoding="utf-8")
    quantized(llama(), **SCHEMES["int8"]).save(path, format=FORMAT)
    after = json.loads((path / "config.json").read_text(encoding="utf-8"))
    assert list(after) == ["b", "a", "limits", "quantization_config"]
    assert after["quantization_config"]["quant_method"] == "compressed-tensors"
    assert {key: after[key] for key in "ba"} == {"b": 1, "a": [1.5, {"ö": None}]}
    assert after["limits"] == [0.0, float("inf")]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": ', "[" * 100_000])
def test_a_config_that_is_none_is_refused_before_anything_is_written(content, tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"config\.json"):
        quantized(llama(), **SCHEMES["int8"]).save(path, format=FORMAT)
    assert [file.name for file in path.iterdir()] == ["config.json"]
    assert (path / "config.json").read_text() == content


def test_a_refused_model_writes_nothing_and_names_each_layer(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 4, 4)).eval()
    result = Quantizer(validators=(), show_progress=False).quantize(model, [torch.randn(2, 3, 4, 4)])
    with pytest.raises(ArtifactError, match=r"layer '0': the weight of Conv2d is \[8, 3, 3, 3\].*keep it in float"):
        result.save(tmp_path / "model", format=FORMAT)
    assert list(tmp_path.iterdir()) == []


class Lone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.q_proj(x) + self.k_proj(x) + self.v_proj(x)


def test_one_of_three_joined_layers_is_refused_when_the_others_are_seen_to_be_float(tmp_path):
    quantizer = Quantizer("int8-weight-only", include=["q_proj"], validators=(), show_progress=False)
    with pytest.raises(ArtifactError, match=r"layer 'q_proj': readers join q_proj, k_proj, v_proj"):
        quantizer.quantize(Lone().eval()).save(tmp_path / "model", format=FORMAT)


class Scaled(nn.Module):
    """A layer whose input has an outlier that no norm can take a factor of."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.head = nn.Linear(16, 16), nn.Linear(16, 4)
        self.register_buffer("sizes", torch.tensor([300.0, *[1.0] * 15]))

    def forward(self, x):
        return self.head(torch.tanh(self.one(torch.tanh(x) * self.sizes)))


def test_a_factor_of_a_float_layer_is_refused_and_not_made_where_the_format_is_known(tmp_path):
    data = [torch.randn(64, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    options = {"algorithms": ["smoothquant"], "show_progress": False, "on_failure": "ignore"}
    artifact = read_artifact_with_a_float_factor(data, options, tmp_path / "ours.safetensors")
    (reason,) = CompressedTensorsFormat().can_store(artifact)
    assert reason.startswith("layer 'one': an algorithm multiplies its input by a factor")
    with pytest.raises(ArtifactError, match=r"layer 'one'.*insert=False"):
        convert(tmp_path / "ours.safetensors", tmp_path / "theirs", FORMAT)
    assert not (tmp_path / "theirs").exists()
    result = Quantizer(format=FORMAT, on_refusal="keep", **options).quantize(Scaled().eval(), data)
    result.save(tmp_path / "theirs")
    assert torch.equal(load_file(tmp_path / "theirs" / "model.safetensors")["one.weight"], Scaled().one.weight)


def read_artifact_with_a_float_factor(data, options, path):
    """What a file holds in whose model a layer was smoothed and is float, as earlier versions wrote it."""
    result = Quantizer(**options).quantize(Scaled().eval(), data)
    assert result.model.one.input_factor is not None
    result.save(path)
    saved = read_artifact(path)
    layers = {name: plan for name, plan in saved.manifest["layers"].items() if name != "one"}
    names = {name: tensor for name, tensor in saved.tensors.items() if not name.startswith("one.weight_")}
    floats = {"one.weight": torch.ones(16, 16), "one.input_factor": saved.tensors["one.input_factor"]}
    tensors = {
        name: x for name, x in (names | floats).items() if name not in ("one.input_scale", "one.input_zero_point")
    }
    artifact = Artifact(tensors, {**saved.manifest, "layers": layers})
    SafetensorsFormat().save(artifact, path)
    return artifact


class Clash(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.fc.register_buffer("weight_packed", torch.zeros(3))

    def forward(self, x):
        return self.fc(x)


def test_names_that_clash_are_refused(tmp_path):
    result = Quantizer("int8-weight-only", validators=(), show_progress=False).quantize(Clash().eval())
    with pytest.raises(ArtifactError, match=r"two tensors would be called 'fc\.weight_packed'"):
        result.save(tmp_path / "model", format=FORMAT)
    assert list(tmp_path.iterdir()) == []


def test_one_file_and_several_are_not_mixed(tmp_path):
    result = quantized(llama(), **SCHEMES["int8"])
    result.save(tmp_path / "model", format=FORMAT)
    with pytest.raises(ArtifactError, match="remove that"):
        result.save(tmp_path / "model", format={"name": FORMAT, "max_shard_bytes": 20_000})
    assert_same_state(result.model, Quantizer().load(tmp_path / "model", llama()))


def test_shards_come_back_and_other_safetensors_files_do_not_matter(tmp_path):
    result = quantized(llama(), **SCHEMES["int4"])
    result.save(tmp_path / "model", format={"name": FORMAT, "max_shard_bytes": 20_000})
    (tmp_path / "model" / "adapter.safetensors").write_bytes(b"something else")
    assert_same_state(result.model, Quantizer().load(tmp_path / "model", llama()))


def test_a_manifest_that_does_not_fit_the_tensors_is_an_error(tmp_path):
    quantized(llama(), **SCHEMES["int4"]).save(tmp_path / "model", format=FORMAT)
    file = tmp_path / "model" / "model.safetensors"
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    name = "model.layers.0.mlp.up_proj.weight_scale"
    for changed in (tensors | {name: tensors[name].half()}, {n: t for n, t in tensors.items() if n != name}):
        save_file(changed, file, metadata=metadata)
        with pytest.raises(ArtifactError, match=name):
            Quantizer().load(tmp_path / "model", llama())
    shape = "model.layers.0.mlp.up_proj.weight_shape"
    save_file(tensors | {shape: torch.tensor([1, 2])}, file, metadata=metadata)
    with pytest.raises(ArtifactError, match=shape):
        Quantizer().load(tmp_path / "model", llama())


def test_a_float_state_dict_is_a_plain_folder(tmp_path):
    state = llama().state_dict()
    save_model(state, tmp_path / "model", format=FORMAT)
    back = load_model(tmp_path / "model", format=FORMAT)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    assert json.loads((tmp_path / "model" / "config.json").read_text()) == {}


def test_the_file_is_marked_as_torch_s(tmp_path):
    quantized(llama(), **SCHEMES["int8"]).save(tmp_path / "model", format=FORMAT)
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as opened:
        assert opened.metadata()["format"] == "pt"
        assert (
            layers_of(Quantizer().load(tmp_path / "model", llama())).keys()
            == json.loads(opened.metadata()["mono_quant"])["layers"].keys()
        )
