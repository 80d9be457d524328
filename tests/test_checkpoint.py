"""Weights without a model: state_dicts and files, quantized one tensor at a time."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import mono_quant
from mono_quant import Quantizer, dequantize_model, load_model, quantize
from mono_quant.checkpoint import dequantize_checkpoint
from mono_quant.errors import ArtifactError, ConfigurationError, QuantizationWarning, UnsupportedLayerError
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import Artifact, Format, FormatSpec


class Reader(nn.Module):
    """Every way in which layers name their weights, and a tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.mix = nn.LSTM(32, 16, 2, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(32)
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("step", torch.tensor(3))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.mix(self.embed(tokens))[0])
        return self.head(self.attend(x, x, x)[0])


SCHEMES = [
    pytest.param("int8-weight-only", id="int8"),
    pytest.param({"name": "int4-weight-only", "group_size": 16}, id="int4"),
    pytest.param("float8-weight-only", id="float8"),
    pytest.param("float16", id="float16"),
]
TOKENS = torch.arange(14).reshape(2, 7)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Reader().eval()


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    # Compared as bytes, since float8 has no equality.
    as_bytes = [{n: t.contiguous().reshape(-1).view(torch.uint8) for n, t in state.items()} for state in (one, other)]
    return set(one) == set(other) and all(torch.equal(as_bytes[0][name], as_bytes[1][name]) for name in one)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_tensors_are_those_that_the_model_itself_would_get(model: nn.Module, scheme: object):
    quantizer = Quantizer(scheme)
    by_model = quantizer.quantize(model).model.state_dict()
    assert same(quantizer.quantize_checkpoint(model.state_dict()).state_dict(), dict(by_model))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_becomes_a_file_that_loads_into_the_model(model: nn.Module, scheme: object, suffix: str, tmp_path: Path):
    torch.save(model.state_dict(), tmp_path / "float.pt")
    quantizer = Quantizer(scheme)
    checkpoint = quantizer.quantize_checkpoint(tmp_path / "float.pt")
    checkpoint.save(tmp_path / f"quantized{suffix}")
    loaded = Quantizer().load(tmp_path / f"quantized{suffix}", Reader)
    assert torch.equal(loaded(TOKENS), quantizer.quantize(model).model(TOKENS))
    assert loaded.head._parameters.get("weight") is loaded.embed._parameters.get("weight")


def test_shards_become_shards_that_load_into_the_model(model: nn.Module, tmp_path: Path):
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "head.weight"}
    checkpoint = Quantizer("int8-weight-only").quantize_checkpoint(
        state | {"head.weight": state["embed.weight"].clone()}
    )
    checkpoint.save(tmp_path / "model.safetensors", max_shard_bytes=8_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded = Quantizer().load(tmp_path / "model.safetensors.index.json", Reader)
    assert torch.equal(loaded(TOKENS), Quantizer("int8-weight-only").quantize(model).model(TOKENS))


def test_the_file_is_the_size_that_was_announced_and_plain_safetensors_reads_it(model: nn.Module, tmp_path: Path):
    checkpoint = Quantizer("int8-weight-only").quantize_checkpoint(model.state_dict())
    checkpoint.save(tmp_path / "q.safetensors")
    tensors = safetensors.torch.load_file(tmp_path / "q.safetensors")
    assert sum(tensor.nbytes for tensor in tensors.values()) == round(checkpoint.quantized_size_mb * 2**20)
    distinct = {tensor.data_ptr(): tensor.nbytes for tensor in model.state_dict().values()}
    assert sum(distinct.values()) == round(checkpoint.original_size_mb * 2**20)


def test_saving_twice_gives_the_same_bytes(model: nn.Module, tmp_path: Path):
    checkpoint = Quantizer("int8-weight-only").quantize_checkpoint(model.state_dict())
    for name in ("a", "b"):
        checkpoint.save(tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("algorithms", [["hqq"], ["bn-fold", "gptq", "hqq"]])
def test_algorithms_that_take_no_part_without_a_model_are_named(algorithms: list[str], tmp_path: Path):
    weights = {"fc.weight": torch.randn(16, 32)}
    quantizer = Quantizer("int8-weight-only", algorithms=algorithms)
    named = ", ".join(repr(name) for name in algorithms if name != "bn-fold")
    with pytest.warns(QuantizationWarning, match=f"no algorithm takes part, so not {named}:"):
        quantizer.quantize_checkpoint(weights)
    (tmp_path / "in").mkdir()
    safetensors.torch.save_file(weights, tmp_path / "in" / "model.safetensors")
    with pytest.warns(QuantizationWarning, match=f"no algorithm takes part, so not {named}:"):
        quantizer.quantize_folder(tmp_path / "in", tmp_path / "out", workers=1)


def test_patterns_choose_layers_by_their_names(model: nn.Module):
    config = {"include": ["attend*", "head", "embed"], "exclude": ["attend.out_proj"], "overrides": {"head": None}}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan = Quantizer("int8-weight-only", **config).quantize_checkpoint(state).plan
    assert list(plan.layers) == ["embed", "attend"]
    assert plan.kept["attend.out_proj.weight"] == "excluded by 'attend.out_proj'"
    assert plan.kept["head.weight"] == "overridden by 'head'"


@pytest.mark.parametrize("field", ["include", "exclude", "overrides"])
def test_patterns_may_overlap(field: str):
    patterns = ["lm_head", "*head", "re:lm_.*"]
    state = {"fc.weight": torch.randn(4, 4), "lm_head.weight": torch.randn(4, 4)}
    given = dict.fromkeys(patterns) if field == "overrides" else patterns
    plan = Quantizer("int8-weight-only", **{field: given}).quantize_checkpoint(state).plan
    assert list(plan.layers) == ["lm_head" if field == "include" else "fc"]
    with pytest.raises(ConfigurationError, match=r"patterns \['tail'\] match no layer"):
        Quantizer("int8-weight-only", include=[*patterns, "tail"]).quantize_checkpoint(state)


@pytest.mark.parametrize(("excluded", "other"), [("head", "embed"), ("embed", "head")])
def test_a_tensor_of_two_names_stays_float_when_one_of_them_does(
    model: nn.Module, excluded: str, other: str, tmp_path: Path
):
    quantizer = Quantizer("int8-weight-only", exclude=[excluded])
    checkpoint = quantizer.quantize_checkpoint(model.state_dict())
    reason = f"it is one tensor with '{excluded}.weight', which stays in float"
    assert checkpoint.plan.kept[f"{other}.weight"] == reason
    checkpoint.save(tmp_path / "q.safetensors")
    assert torch.equal(
        Quantizer().load(tmp_path / "q.safetensors", Reader)(TOKENS), quantizer.quantize(model).model(TOKENS)
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_tensor_of_two_names_has_both_again_after_a_file_of_ours(model: nn.Module, suffix: str, tmp_path: Path):
    mono_quant.save_model(model, tmp_path / f"float{suffix}")
    quantizer = Quantizer("int8-weight-only")
    quantizer.quantize_checkpoint(tmp_path / f"float{suffix}").save(tmp_path / "q.safetensors")
    loaded = Quantizer().load(tmp_path / "q.safetensors", Reader)
    assert torch.equal(loaded(TOKENS), quantizer.quantize(model).model(TOKENS))
    assert loaded.head._parameters.get("weight_scale") is loaded.embed._parameters.get("weight_scale")


def test_a_tensor_of_two_names_is_not_quantized_in_two_ways(model: nn.Module):
    overrides = {"head": {"scheme": "float8-weight-only"}}
    with pytest.raises(ConfigurationError, match=r"'embed\.weight' and 'head\.weight' are one tensor"):
        Quantizer("int8-weight-only", overrides=overrides).quantize_checkpoint(model.state_dict())


def test_small_weights_stay_float_below_min_parameters(model: nn.Module):
    plan = Quantizer("int8-weight-only", min_parameters=2000).quantize_checkpoint(model.state_dict()).plan
    assert set(plan.layers) == {"mix", "attend"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"exclude": ["type:Linear"]}, "only a model has"),
        ({"exclude": ["no.such.layer"]}, "match no layer"),
        ({"include": ["norm"]}, "nothing of the state_dict would be quantized"),
        ({"scheme": "int8-static"}, "int8-static .*cannot work on a checkpoint alone: .*--scheme int8-weight-only"),
        ({"scheme": "int8-dynamic"}, "int8-dynamic .*cannot work on a checkpoint alone"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(model: nn.Module, config: dict[str, object], words: str):
    with pytest.raises(ConfigurationError, match=words):
        Quantizer(**{"scheme": "int8-weight-only", **config}).quantize_checkpoint(model.state_dict())


def test_a_weight_that_is_not_finite_stops_the_run_and_leaves_the_old_file(model: nn.Module, tmp_path: Path):
    path = tmp_path / "q.safetensors"
    path.write_bytes(b"old")
    state = model.state_dict()
    state["mix.weight_hh_l1"][3, 2] = float("nan")
    with pytest.raises(UnsupportedLayerError, match=r"mix\.weight_hh_l1"):
        Quantizer("int8-weight-only").quantize_checkpoint(state).save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_quantized_file_goes_back_to_float_without_its_model(model: nn.Module, scheme: object, tmp_path: Path):
    result = Quantizer(scheme).quantize(model)
    result.save(tmp_path / "q.safetensors")
    dequantize_checkpoint(tmp_path / "q.safetensors", tmp_path / "f.safetensors")
    by_file = load_model(tmp_path / "f.safetensors")
    assert list(model.state_dict()) == list(dequantize_model(result).state_dict())
    assert same(by_file, dict(dequantize_model(result).state_dict()))
    model.load_state_dict(by_file, strict=True)


def test_a_static_file_goes_back_to_float_without_what_belongs_to_its_inputs(tmp_path: Path):
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    result = mono_quant.Quantizer().quantize(model, [torch.randn(32, 8)])
    result.save(tmp_path / "q.safetensors")
    dequantize_checkpoint(tmp_path / "q.safetensors", tmp_path / "f.safetensors")
    assert same(load_model(tmp_path / "f.safetensors"), dict(dequantize_model(result.model).state_dict()))


@pytest.mark.parametrize(
    ("scheme", "shape"),
    [("int8-weight-only", [300_000, 300_000]), ("int8-weight-only", [8]), ({"name": "int4-weight-only"}, [4, 512])],
)
def test_a_weight_of_another_shape_than_its_codes_is_not_dequantized(scheme: object, shape: list[int], tmp_path: Path):
    Quantizer(scheme).quantize_checkpoint({"fc.weight": torch.randn(4, 256)}).save(tmp_path / "q.safetensors")
    with safetensors.safe_open(tmp_path / "q.safetensors", "pt") as file:
        manifest = json.loads(file.metadata()["mono_quant"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    manifest["layers"]["fc"]["weights"]["weight"]["shape"] = shape
    safetensors.torch.save_file(tensors, tmp_path / "q.safetensors", {"mono_quant": json.dumps(manifest)})
    with pytest.raises(ArtifactError, match=r"q\.safetensors: fc\.weight must be .*, as the manifest says"):
        dequantize_checkpoint(tmp_path / "q.safetensors", tmp_path / "f.safetensors")
    assert not (tmp_path / "f.safetensors").exists()


def test_a_float_file_is_no_quantized_one(model: nn.Module, tmp_path: Path):
    mono_quant.save_model(model, tmp_path / "f.safetensors")
    with pytest.raises(ArtifactError, match="not a quantized"):
        dequantize_checkpoint(tmp_path / "f.safetensors", tmp_path / "g.safetensors")
    assert not (tmp_path / "g.safetensors").exists()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"weight": torch.ones(8, 16).to(torch.float8_e4m3fn)}, "it is float8_e4m3fn[8, 16], no weight of a layer"),
        ({"weight_scale_inv": torch.ones(8, 16)}, "it is not called a weight"),
        ({"weight_v": torch.ones(8, 16, 3)}, "it is not called a weight"),
    ],
)
def test_what_only_looks_like_a_weight_stays_as_it_is(state: dict[str, Tensor], reason: str):
    odd = {f"odd.{name}": tensor for name, tensor in state.items()}
    checkpoint = Quantizer("int8-weight-only").quantize_checkpoint({"fc.weight": torch.eye(4), **odd})
    assert [checkpoint.plan.kept[name] for name in odd] == [reason]
    assert same({name: checkpoint.state_dict()[name] for name in odd}, odd)


def test_a_quantized_file_is_not_quantized_once_more(model: nn.Module, tmp_path: Path):
    Quantizer({"name": "int4-weight-only", "group_size": 16}).quantize_checkpoint(model.state_dict()).save(
        tmp_path / "model.safetensors", max_shard_bytes=8_000
    )
    with pytest.raises(ConfigurationError, match=r"model\.safetensors\.index\.json is quantized already"):
        quantize(tmp_path)


def test_the_front_door_takes_a_module_a_state_dict_and_a_path(model: nn.Module, tmp_path: Path):
    torch.save(model.state_dict(), tmp_path / "float.pth")
    by_model = quantize(model).model.state_dict()
    assert same(quantize(model.state_dict()).state_dict(), dict(by_model))
    assert same(quantize(str(tmp_path / "float.pth")).state_dict(), dict(by_model))
    assert same(quantize(tmp_path / "float.pth").state_dict(), dict(by_model))


def test_the_front_door_names_what_is_no_tensor():
    with pytest.raises(ConfigurationError, match=r"'fc\._extra_state' is a dict; take it out"):
        quantize({"fc.weight": torch.randn(4, 4), "fc._extra_state": {"a": 1}})


def test_a_module_is_no_checkpoint():
    with pytest.raises(ConfigurationError, match=r"not as a Linear; those of a module are its state_dict\(\)"):
        Quantizer("int8-weight-only").quantize_checkpoint(nn.Linear(2, 2))


@pytest.mark.parametrize("kind", ["saved over", "other shape", "other dtype", "other names", "untied"])
def test_a_source_that_changed_since_it_was_planned_is_an_error(kind: str, tmp_path: Path):
    weight = torch.randn(4, 4)
    state = {"a.weight": weight, "b.weight": weight}
    path = tmp_path / "source.pt"
    torch.save(state, path)
    checkpoint = Quantizer("int8-weight-only").quantize_checkpoint(path)
    before = checkpoint.state_dict()
    others = {
        "other shape": {"a.weight": weight[:2], "b.weight": weight[:2]},
        "other dtype": {name: tensor.half() for name, tensor in state.items()},
        "other names": {"a.weight": weight, "c.weight": weight},
        "untied": {"a.weight": weight, "b.weight": weight + 1},
    }
    if kind == "saved over":
        checkpoint.save(path)
        assert torch.equal(load_model(path)["a.weight"], before["a.weight"])
    else:
        torch.save(others[kind], path)
    written = path.read_bytes()
    for again in (
        checkpoint.state_dict,
        lambda: checkpoint.save(path),
        lambda: checkpoint.save(tmp_path / "q.safetensors"),
    ):
        with pytest.raises(ArtifactError, match=r"source\.pt changed since it was planned"):
            again()
    assert path.read_bytes() == written
    assert not (tmp_path / "q.safetensors").exists()


class Picky(Format):
    """Writes anything, but only when it was asked whether it can."""

    def can_store(self, artifact: Artifact) -> list[str]:
        return ["it is too wide"] if "wide.weight" in artifact.tensors else []

    def save(self, artifact: Artifact, path: Path) -> None:
        path.write_text(f"{len(artifact.tensors)} tensors")

    def load(self, path: Path) -> Artifact:
        raise NotImplementedError(path)


class PickyPlugin:
    """Two formats of a test."""

    @mono_quant.hookimpl
    def mono_quant_formats(self) -> list[FormatSpec]:
        return [FormatSpec(name="picky", summary="a test's", factory=Picky, suffixes=(".picky", ".safetensors"))]


@pytest.mark.parametrize("suffix", [".picky", ".safetensors"])
def test_a_checkpoint_is_written_by_the_format_of_the_suffix_which_may_refuse(suffix: str, tmp_path: Path):
    quantizer = Quantizer("int8-weight-only", plugins=[PickyPlugin()])
    quantizer.quantize_checkpoint({"fc.weight": torch.eye(4)}).save(tmp_path / f"q{suffix}")
    assert (tmp_path / f"q{suffix}").read_text() == "2 tensors"
    checkpoint = quantizer.quantize_checkpoint({"wide.weight": torch.eye(4)})
    with pytest.raises(ArtifactError, match=r"wide\.\w+ cannot be written: it is too wide"):
        checkpoint.save(tmp_path / f"wide{suffix}")
    assert not (tmp_path / f"wide{suffix}").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors.index.json"])
def test_several_files_are_for_safetensors_only(suffix: str, tmp_path: Path):
    checkpoint = Quantizer("int8-weight-only").quantize_checkpoint({"fc.weight": torch.eye(4)})
    with pytest.raises(ConfigurationError, match=r"max_shard_bytes is for \.safetensors files"):
        checkpoint.save(tmp_path / f"q{suffix}", max_shard_bytes=100)
    assert not list(tmp_path.iterdir())


def test_an_index_is_not_a_file_to_save_to(tmp_path: Path):
    checkpoint = Quantizer("int8-weight-only").quantize_checkpoint({"fc.weight": torch.eye(4)})
    with pytest.raises(ArtifactError, match=r"a path that ends in \.safetensors, and max_shard_bytes"):
        checkpoint.save(tmp_path / "q.safetensors.index.json")
    assert not list(tmp_path.iterdir())


def test_the_front_door_says_that_data_need_a_module(model: nn.Module):
    with pytest.raises(ConfigurationError, match="needs a module"):
        quantize(model.state_dict(), calibration_data=[TOKENS], scheme="int8-weight-only")


@pytest.mark.parametrize(
    ("request_", "scheme"),
    [
        ({}, "int8-weight-only"),
        ({"calibration_data": [torch.randn(32, 128)]}, "int8-static"),
        ({"dynamic": True}, "int8-dynamic"),
        ({"dynamic": True, "calibration_data": [torch.randn(32, 128)]}, "int8-dynamic"),
        ({"bits": 4}, "int4-weight-only"),
        ({"bits": 3, "scheme": "asymmetric"}, "int3-weight-only"),
        ({"bits": 16}, "float16"),
        ({"scheme": "bfloat16"}, "bfloat16"),
    ],
)
def test_the_front_door_finds_the_scheme(request_: dict[str, object], scheme: str):
    result = quantize(nn.Sequential(nn.Linear(128, 4)), **request_)
    assert {layer.scheme for layer in result.plan.layers.values()} == {scheme}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"bits": 1}, "2 to 8 or 16"),
        ({"bits": 4, "dynamic": True}, "8-bit weights only"),
        ({"bits": 16, "dynamic": True}, "float16 weights"),
        ({"dynamic": True, "scheme": "asymmetric"}, "are symmetric"),
        ({"bits": 4, "scheme": "int8-static"}, "says it all"),
        ({"scheme": "int9"}, "int9"),
        ({"bitz": 4}, "did you mean 'bits'"),
    ],
)
def test_the_front_door_refuses_what_cannot_be_meant(request_: dict[str, object], words: str):
    with pytest.raises((ConfigurationError, LookupError), match=words):
        quantize(nn.Sequential(nn.Linear(128, 4)), **request_)


def test_the_front_door_selects_by_type_name_and_pattern():
    model = nn.Sequential(nn.Linear(128, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    assert quantize(model, skip_names=["0"], exclude="2").info.selected_layers == ("1",)
    assert quantize(model, layer_names=["0"], include=["1"]).info.selected_layers == ("0", "1")
    with pytest.raises(ConfigurationError, match="nothing would be quantized"):
        quantize(model, skip_types=nn.Linear)


def test_dequantize_model_refuses_a_float_model():
    with pytest.raises(ConfigurationError, match="no quantized layers"):
        dequantize_model(nn.Linear(2, 2))


def test_weights_beyond_float16_are_refused():
    with pytest.raises(UnsupportedLayerError, match="beyond float16"):
        quantize({"fc.weight": torch.full((4, 4), 1e6)}, bits=16).state_dict()


def test_a_weight_whose_scale_would_take_the_name_of_another_tensor_is_kept():
    state = {"fc.weight": torch.randn(4, 4), "fc.weight_scale": torch.full((4,), 7.0), "out.weight": torch.randn(4, 4)}
    checkpoint = quantize(state)
    assert checkpoint.plan.kept["fc.weight"] == "the checkpoint has a tensor 'fc.weight_scale' already"
    assert torch.equal(checkpoint.state_dict()["fc.weight_scale"], state["fc.weight_scale"])


def test_the_weight_of_a_norm_of_several_axes_is_kept():
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm((8, 8)))
    assert quantize(model.state_dict()).plan.kept["1.weight"] == "its layer has a bias of the same shape, as a norm has"


class Gate(nn.Module):
    """A layer of a user's own whose weight looks like a linear layer's, and norms without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))
        self.fc = nn.Linear(8, 8)
        self.input_layernorm, self.RMSNorm_2 = nn.RMSNorm((2, 4)), nn.RMSNorm((3, 2, 4))
        self.norm = nn.Sequential(nn.Linear(8, 8))


def test_the_weight_of_a_norm_without_a_bias_is_known_by_its_name(tmp_path: Path):
    checkpoint = quantize(Gate().state_dict(), exclude=[""])
    assert list(checkpoint.plan.layers) == ["fc", "norm.0"]
    for norm in ("input_layernorm", "RMSNorm_2"):
        assert checkpoint.plan.kept[f"{norm}.weight"] == "its layer is called a norm"
    checkpoint.save(tmp_path / "q.safetensors")
    assert isinstance(Quantizer().load(tmp_path / "q.safetensors", Gate).fc, QuantizedModule)


def test_loading_says_which_layer_should_have_been_excluded(tmp_path: Path):
    state = {f"gate.{name}": tensor for name, tensor in Gate().state_dict().items()}
    model = nn.ModuleDict({"gate": Gate()})
    quantize(state).save(tmp_path / "q.safetensors")
    with pytest.raises(ArtifactError, match=r"does not quantize Gate\. .* anew with exclude=\['gate'\]"):
        Quantizer().load(tmp_path / "q.safetensors", model)
    quantize(state, exclude=["gate"]).save(tmp_path / "q.safetensors")
    assert isinstance(Quantizer().load(tmp_path / "q.safetensors", model)["gate"].fc, QuantizedModule)


def test_min_parameters_counts_the_weights_of_a_whole_layer(tmp_path: Path):
    model = nn.Sequential(nn.LSTM(8, 64))
    quantize(model.state_dict(), min_parameters=4096).save(tmp_path / "q.safetensors")
    assert list(Quantizer().load(tmp_path / "q.safetensors", model).state_dict())


def test_a_tensor_called_like_an_input_scale_stays_with_a_weight_only_layer(tmp_path: Path):
    state = {"fc.weight": torch.randn(4, 4), "fc.input_scale": torch.tensor(3.0)}
    quantize(state).save(tmp_path / "q.safetensors")
    dequantize_checkpoint(tmp_path / "q.safetensors", tmp_path / "f.safetensors")
    assert load_model(tmp_path / "f.safetensors")["fc.input_scale"] == 3


@pytest.mark.parametrize("names", [["fc", "fc.weight"], ["fc.weight", "fc"]])
def test_a_tensor_with_the_name_of_a_layer_has_its_own_line_in_the_ledger(names: list[str]):
    state = {"fc": torch.randn(3), "fc.weight": torch.randn(4, 4)}
    checkpoint = quantize({name: state[name] for name in names})
    assert list(checkpoint.plan.layers) == list(checkpoint.plan.kept) == ["fc"]
    assert checkpoint.plan.parameter_bytes == 4 * (3 + 16)
    assert sum(entry.bytes_after for entry in checkpoint.plan.entries) == 4 * 3 + 16 + 4 * 4
    assert "kept       1 tensors" in checkpoint.report()


def test_what_is_kept_is_not_the_callers_own():
    state = {"fc.weight": torch.randn(4, 4), "fc.bias": torch.zeros(4)}
    quantize(state).state_dict()["fc.bias"].add_(1)
    assert not state["fc.bias"].any()


def test_a_linear_layer_with_a_computed_bias_runs():
    torch.manual_seed(0)
    layer = nn.Linear(64, 8)
    nn.utils.parametrize.register_parametrization(layer, "bias", nn.Softplus())
    x = torch.randn(3, 64)
    quantized = quantize(nn.Sequential(layer)).model[0]
    weight = quantized.dequantized("weight").double()
    exact = nn.functional.linear(x.double(), weight, layer.bias.double())
    rounding = nn.functional.linear(x.double().abs(), weight.abs(), layer.bias.double().abs()) * 2.0**-24
    # Each term is rounded as a product, and in at most 64 sums.
    assert bool(((quantized(x) - exact).abs() <= 65 * rounding).all())
