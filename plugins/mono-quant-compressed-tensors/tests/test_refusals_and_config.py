"""What is refused, with what to do, and what ``config.json`` says of the rest: from plans alone."""

import pytest
from models import llama
from mono_quant import Quantizer
from mono_quant.core.granularity import PerChannel, PerGroup, PerTensor, PerToken
from mono_quant.core.qtypes import FLOAT8_E4M3, FLOAT16, INT8, UINT8, int_type
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api import LayerPlan, TensorSpec, WeightSpec
from safetensors.torch import save_file

from mono_quant_compressed_tensors import CompressedTensorsFormat

TOKEN = TensorSpec(dtype=UINT8, symmetric=True, granularity=PerToken(), is_dynamic=True)
TENSOR = TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor(), is_dynamic=True)
STATIC = TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor())


def spec_of(dtype=INT8, *, shape=(64, 96), grain=None, symmetric=True):
    return WeightSpec(dtype=dtype, symmetric=symmetric, granularity=grain or PerChannel(0), shape=shape)


INT4 = spec_of(int_type(4), grain=PerGroup(32, 0), symmetric=False)
EVEN_INT4 = spec_of(int_type(4), grain=PerGroup(32, 0))


def plans(**specs):
    """Layers by name, dots as two underlines: of a spec, or of a tuple of spec, layer type and input."""
    made = {}
    for name, given in specs.items():
        spec, *others = given if isinstance(given, tuple) else (given,)
        kind, inputs = [*others, *("Linear", None)[len(others) :]]
        weights = spec if isinstance(spec, dict) else {"weight": spec}
        full = name.replace("__", ".")
        made[full] = LayerPlan(
            name=full, layer_type=kind, scheme="any", weights=weights, input=inputs, quantized_bytes=1
        )
    return made


def refusals(readers=("transformers",), **specs):
    return CompressedTensorsFormat(readers=readers).refusals(plans(**specs))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((spec_of(shape=(8, 3, 3, 3)), "Conv2d"), "weight of Conv2d is [8, 3, 3, 3]"),
        ((spec_of(shape=(8, 3, 3)), "Conv1d"), "weight of Conv1d is [8, 3, 3]"),
        ((spec_of(shape=(8, 3, 3, 3)), "Conv2d", STATIC), "weight of Conv2d is"),
        ((spec_of(), "Embedding"), "it is an embedding, and"),
        ((spec_of(), "EmbeddingBag"), "it is an embedding, and"),
        (({"weight_ih_l0": spec_of(), "weight_hh_l0": spec_of()}, "LSTM"), "LSTM has the quantized parameters"),
        (({"in_proj_weight": spec_of()}, "MultiheadAttention"), "MultiheadAttention has the quantized parameters"),
        ((spec_of(), "SmoothedLinear"), "multiplies its input by a factor"),
        (spec_of(grain=PerChannel(1)), "run along axis 1"),
        (spec_of(int_type(4), grain=PerGroup(40, 0)), "96 columns are no multiple of the group size 40"),
    ],
)
def test_a_layer_without_a_place_is_refused_and_told_what_to_do(given, words):
    found = refusals(model__fine=spec_of(), model__odd=given)
    assert list(found) == ["model.odd"]
    assert words in found["model.odd"]
    assert "keep it in float" in found["model.odd"] or "leave that algorithm out" in found["model.odd"]


@pytest.mark.parametrize(
    "name", ["model__embed_tokens", "wte", "transformer__wpe", "bert__embeddings__word_embeddings", "shared"]
)
def test_an_embedding_of_a_checkpoint_is_known_by_its_name(name):
    assert "an embedding by its name" in next(iter(refusals(**{name: (spec_of(), "")}).values()))


def test_other_names_of_a_checkpoint_are_no_embeddings():
    assert (
        refusals(model__lm_head=(spec_of(), ""), model__embed__proj=(spec_of(), ""), mlp__shared__up=(spec_of(), ""))
        == {}
    )


def test_a_model_that_is_one_layer_is_refused():
    plan = LayerPlan(
        name="", layer_type="Linear", scheme="any", weights={"weight": spec_of()}, input=None, quantized_bytes=1
    )
    assert "put it into a module" in CompressedTensorsFormat().refusals({"": plan})[""]


def test_half_precision_weights_of_any_layer_are_ordinary_tensors():
    half = WeightSpec(dtype=FLOAT16, symmetric=True, granularity=PerTensor(), shape=(8, 3, 3, 3))
    given = plans(conv=(half, "Conv2d"), rnn=({"weight_ih_l0": half, "weight_hh_l0": half}, "LSTM"))
    assert CompressedTensorsFormat().refusals(given) == {}
    assert CompressedTensorsFormat().config(given, {}) == {}


@pytest.mark.parametrize(
    "spec", [spec_of(int_type(bits), symmetric=even) for bits in range(2, 9) for even in (True, False)]
)
def test_all_integers_are_taken(spec):
    assert refusals(fc=spec) == {}


class TestLayersThatAreJoined:
    def test_alike_they_are_taken(self):
        assert refusals(a__q_proj=spec_of(), a__k_proj=spec_of(), a__v_proj=spec_of()) == {}
        assert refusals(m__gate_proj=spec_of(), m__up_proj=spec_of(), m__down_proj=INT4, readers=("vllm",)) == {}

    def test_all_of_a_torn_set_are_named(self):
        found = refusals(
            a__q_proj=spec_of(),
            a__k_proj=spec_of(),
            a__v_proj=EVEN_INT4,
            b__q_proj=spec_of(),
            b__k_proj=spec_of(),
            b__v_proj=spec_of(),
        )
        assert set(found) == {"a.q_proj", "a.k_proj", "a.v_proj"}
        assert (
            "q_proj, k_proj, v_proj into one layer, and here they are quantized in different ways" in found["a.q_proj"]
        )

    def test_one_that_is_missing_is_named(self):
        found = refusals(a__q_proj=spec_of(), a__k_proj=spec_of())
        assert set(found) == {"a.q_proj", "a.k_proj"}
        assert "here v_proj not quantized" in found["a.k_proj"]
        assert set(refusals(m__gate_proj=spec_of())) == {"m.gate_proj"}

    def test_one_that_may_stand_alone_is_taken(self):
        """DeepSeek has a q_proj without the others, Nemotron an up_proj without a gate."""
        assert refusals(a__q_proj=spec_of(), m__up_proj=spec_of()) == {}

    def test_one_whose_partners_are_known_to_stay_in_float_is_named(self):
        given = plans(a__q_proj=spec_of(), m__up_proj=spec_of())
        found = CompressedTensorsFormat().refusals(given, {"a.k_proj", "a.v_proj", "lm_head"})
        assert list(found) == ["a.q_proj"]
        assert "k_proj and v_proj not quantized" in found["a.q_proj"]

    def test_a_model_and_a_checkpoint_are_refused_before_any_work(self, tmp_path):
        named = {"format": "compressed-tensors", "exclude": ["*.k_proj", "*.v_proj"], "show_progress": False}
        quantizer = Quantizer("int8-weight-only", **named)
        with pytest.raises(
            ConfigurationError, match=r"self_attn\.q_proj: readers join .*k_proj and v_proj not quantized"
        ):
            quantizer.plan(llama())
        save_file(llama().state_dict(), tmp_path / "model.safetensors")
        with pytest.raises(
            ConfigurationError, match=r"self_attn\.q_proj: readers join .*k_proj and v_proj not quantized"
        ):
            quantizer.quantize_folder(tmp_path, tmp_path.parent / "out")
        assert not (tmp_path.parent / "out").exists()
        kept = Quantizer("int8-weight-only", on_refusal="keep", **named).quantize_folder(
            tmp_path, tmp_path.parent / "out"
        )
        assert not any("q_proj" in name for name in kept.plan.layers)

    def test_inputs_count_too(self):
        found = refusals(m__gate_proj=(spec_of(), "Linear", STATIC), m__up_proj=(spec_of(), "Linear", TOKEN))
        assert set(found) == {"m.gate_proj", "m.up_proj"}

    def test_one_that_is_refused_for_itself_tears_its_set(self):
        found = refusals(a__query=spec_of(), a__key=spec_of(), a__value=(spec_of(), "SmoothedLinear"))
        assert set(found) == {"a.query", "a.key", "a.value"}
        assert "factor" in found["a.value"]


class TestVllm:
    @pytest.mark.parametrize("bits", [2, 3, 5, 6, 7])
    def test_it_reads_4_and_8_bits(self, bits):
        assert "4 and 8 bits" in refusals(("vllm",), fc=spec_of(int_type(bits)))["fc"]

    @pytest.mark.parametrize("bits", [4, 8])
    @pytest.mark.parametrize("even", [True, False])
    def test_by_channel_and_in_its_groups(self, bits, even):
        taken = [PerChannel(0), PerGroup(32, 0), PerGroup(64, 0), PerGroup(128, 0)]
        specs = [spec_of(int_type(bits), grain=grain, symmetric=even, shape=(8, 256)) for grain in taken]
        assert all(refusals(("vllm",), fc=spec) == {} for spec in specs)
        for grain in (PerTensor(), PerGroup(16, 0)):
            assert refusals(("vllm",), fc=spec_of(int_type(bits), grain=grain, symmetric=even, shape=(8, 256)))

    def test_dynamic_inputs_by_token(self):
        assert refusals(("vllm",), fc=(spec_of(), "Linear", TOKEN)) == {}
        assert refusals(("vllm",), fc=(spec_of(), "Linear", STATIC)) == {}
        assert 'activations="per-token"' in refusals(("vllm",), fc=(spec_of(), "Linear", TENSOR))["fc"]
        assert refusals(fc=(spec_of(), "Linear", TENSOR)) == {}

    def test_float8_without_groups(self):
        assert refusals(("vllm",), fc=spec_of(FLOAT8_E4M3)) == {}
        assert refusals(("vllm",), fc=spec_of(FLOAT8_E4M3, grain=PerGroup(32, 0)))
        assert refusals(fc=spec_of(FLOAT8_E4M3, grain=PerGroup(32, 0))) == {}


def test_transformers_reads_packed_zero_points_of_one_scheme_alone():
    assert refusals(a=INT4, b=INT4) == {}
    assert "all layers have one scheme" in refusals(a=INT4, b=spec_of())["a"]
    assert set(refusals(a=INT4, b=spec_of())) == {"a"}
    assert refusals(("vllm",), a=INT4, b=spec_of()) == {}
    assert refusals(a=EVEN_INT4, b=spec_of()) == {}


def test_other_options_are_refused():
    for options in (
        {"readers": ["onnx"]},
        {"readers": "vllm"},
        {"max_shard_bytes": 0},
        {"max_shard_bytes": True},
        {"inputs": "some"},
    ):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            CompressedTensorsFormat(**options)


def config(kept=(), **specs):
    said = CompressedTensorsFormat().config(plans(**specs), {f"{name}.weight": (4, 4) for name in kept})
    return said["quantization_config"]


def test_the_whole_of_a_config():
    assert config(model__a=EVEN_INT4, model__b=EVEN_INT4, kept=["lm_head"]) == {
        "quant_method": "compressed-tensors",
        "version": "0.20.0",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "global_compression_ratio": None,
        "config_groups": {
            "group_0": {
                "targets": ["model.a", "model.b"],
                "weights": {
                    "num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32,
                    "dynamic": False,
                },
                "input_activations": None,
                "output_activations": None,
                "format": "pack-quantized",
            }
        },
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "form"),
    [
        (spec_of(), "pack-quantized"),
        (INT4, "pack-quantized"),
        (spec_of(FLOAT8_E4M3), "naive-quantized"),
        ((spec_of(), "Linear", STATIC), "int-quantized"),
        ((spec_of(), "Linear", TOKEN), "int-quantized"),
    ],
)
def test_the_format_of_each_kind(given, form):
    said = config(fc=given)
    assert said["format"] == said["config_groups"]["group_0"]["format"] == form


def test_inputs_are_told_of():
    token = config(fc=(spec_of(), "Linear", TOKEN))["config_groups"]["group_0"]["input_activations"]
    assert token == {
        "num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "group_size": None, "dynamic": True,
    }  # fmt: skip
    static = config(fc=(spec_of(), "Linear", STATIC))["config_groups"]["group_0"]["input_activations"]
    assert static == token | {"symmetric": False, "strategy": "tensor", "dynamic": False}


def test_a_group_that_is_a_whole_channel_is_a_channel():
    said = config(fc=spec_of(int_type(4), grain=PerGroup(96, 0)))["config_groups"]["group_0"]["weights"]
    assert (said["strategy"], said["group_size"]) == ("channel", None)


def test_several_schemes_have_a_group_each_and_several_formats_are_mixed():
    said = config(a=spec_of(), b=EVEN_INT4, c=spec_of(), d=spec_of(FLOAT8_E4M3))
    groups = said["config_groups"]
    assert [group["targets"] for group in groups.values()] == [["a", "c"], ["b"], ["d"]]
    assert said["format"] == "mixed-precision"
    assert [group["format"] for group in groups.values()] == ["pack-quantized", "pack-quantized", "naive-quantized"]
    assert config(a=spec_of(), b=EVEN_INT4)["format"] == "pack-quantized"


def test_what_is_ignored_are_exact_names_of_matrices():
    half = spec_of(FLOAT16, grain=PerTensor())
    given = plans(a=spec_of(), half=half)
    kept = {
        "head.weight": (4, 4),
        "norm.weight": (4,),
        "conv.weight": (4, 3, 3),
        "head.bias": (4,),
        "experts.up": (4, 4),
    }
    said = CompressedTensorsFormat().config(given, kept)["quantization_config"]
    assert said["ignore"] == ["half", "head"]


def test_transformers_is_told_to_decode_packed_zero_points_while_it_loads():
    assert config(fc=INT4)["dequantize"] is True
    for spec in (EVEN_INT4, spec_of(), spec_of(int_type(4), grain=PerTensor(), symmetric=False)):
        assert "dequantize" not in config(fc=spec)
