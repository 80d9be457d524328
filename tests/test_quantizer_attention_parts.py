"""Models in which only parts of attention can be quantized, or share what they are made of."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from small_models import quantize, quantized_names, run, sqnr
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrize
from transformer_models import LENGTH, SIZE, Attentive, awake, encoder, padded, sequences

from mono_quant import Quantizer
from mono_quant.core.plan import make_plan
from mono_quant.core.schemes import Int8Dynamic, Int8Static
from mono_quant.errors import ConfigurationError, UnsupportedLayerError
from mono_quant.modules import QuantizedLinear, QuantizedMultiheadAttention, WeightOnly, to_float

ENOUGH_DB = 25
READ = "MultiheadAttention '{}' may read its weight without calling it"

BOTH = pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-static"])

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")


def assert_near(model: nn.Module, data: list[Any], tmp_path: Path, **options: object) -> nn.Module:
    """Quantize; the output is near, and the same after saving and loading."""
    quantizer = Quantizer(show_progress=False, kernel="reference", **options)
    result = quantizer.quantize(model, data)
    result.save(tmp_path / "model.safetensors")
    loaded = quantizer.load(tmp_path / "model.safetensors", model=copy.deepcopy(model))
    for x in data:
        assert sqnr(run(model, x), run(result.model, x)) > ENOUGH_DB
        assert torch.equal(run(result.model, x), run(loaded, x))
    return result.model


@BOTH
@pytest.mark.parametrize("exclude", ["*.self_attn", "type:MultiheadAttention"])
def test_attention_that_is_left_out_keeps_its_output_projection_in_float(scheme: str, exclude: str, tmp_path: Path):
    model = encoder()
    plan = Quantizer(scheme, exclude=exclude).plan(model)
    assert set(plan.layers) == {f"layers.{i}.linear{j}" for i in (0, 1) for j in (1, 2)}
    for i in (0, 1):
        assert plan.kept[f"layers.{i}.self_attn"] == f"excluded by {exclude!r}"
        assert plan.kept[f"layers.{i}.self_attn.out_proj"] == READ.format(f"layers.{i}.self_attn")
    quantized = assert_near(model, sequences(), tmp_path, scheme=scheme, exclude=exclude)
    assert type(quantized.layers[0].self_attn) is nn.MultiheadAttention


@BOTH
@pytest.mark.parametrize("exclude", ["*.out_proj", "*.linear1", "*.linear?", "layers.0.*"])
def test_any_other_part_can_be_left_out_alone(scheme: str, exclude: str, tmp_path: Path):
    quantized = assert_near(encoder(), sequences(), tmp_path, scheme=scheme, exclude=exclude)
    left = {name for name, module in quantized.named_modules() if isinstance(module, nn.Linear)}
    assert (
        left
        == {
            "*.out_proj": {"layers.0.self_attn.out_proj", "layers.1.self_attn.out_proj"},
            "*.linear1": {"layers.0.linear1", "layers.1.linear1"},
            "*.linear?": {f"layers.{i}.linear{j}" for i in (0, 1) for j in (1, 2)},
            "layers.0.*": {f"layers.0.{name}" for name in ("self_attn.out_proj", "linear1", "linear2")},
        }[exclude]
    )


def test_a_layer_that_stays_in_float_as_a_whole_keeps_its_fast_path(tmp_path: Path):
    model = encoder()
    quantized = assert_near(model, sequences(), tmp_path, scheme="int8-dynamic", exclude="layers.0.*")
    assert quantized.layers[0].activation_relu_or_gelu == 1
    assert quantized.layers[1].activation_relu_or_gelu == 0
    assert model.layers[1].activation_relu_or_gelu == 1


@BOTH
@pytest.mark.parametrize(
    "overrides",
    [
        {"*.self_attn": {"scheme": "int8-weight-only"}},
        {"*.self_attn": {"scheme": "int8-weight-only"}, "*.out_proj": {"scheme": "float16"}},
        {"*.out_proj": {"scheme": "int8-weight-only"}},
        {"*.linear1": {"scheme": "int8-weight-only"}},
        {"*.linear?": {"scheme": "bfloat16"}},
    ],
    ids=["attention", "attention in two", "its output", "one Linear", "both Linears"],
)
def test_weight_only_parts_mix_with_others(scheme: str, overrides: Mapping[str, Any], tmp_path: Path):
    quantized = assert_near(encoder(), sequences(), tmp_path, scheme=scheme, overrides=overrides)
    layer = quantized.layers[0]
    if "*.self_attn" in overrides:
        assert isinstance(layer.self_attn, WeightOnly)
        assert isinstance(layer.self_attn.out_proj, WeightOnly) == ("*.out_proj" in overrides)
    elif "*.out_proj" in overrides:
        assert isinstance(layer.self_attn, QuantizedMultiheadAttention)
        assert isinstance(layer.self_attn.out_proj, WeightOnly)


def test_a_model_with_weights_alone_quantized_keeps_all_fast_paths():
    quantized = quantize(encoder(), padded(), scheme="int8-weight-only").model
    assert quantized.use_nested_tensor
    assert [layer.activation_relu_or_gelu for layer in quantized.layers] == [1, 1]
    assert not quantized._forward_hooks


@BOTH
def test_in_place_the_model_itself_leaves_the_fast_paths(scheme: str):
    model, data = encoder(), padded()
    expected = [run(model, *batch.args, **batch.kwargs) for batch in data]
    quantized = quantize(model, data, scheme=scheme, inplace=True, validators=()).model
    assert quantized is model
    for batch, right in zip(data, expected, strict=True):
        assert sqnr(right, run(model, *batch.args, **batch.kwargs)) > ENOUGH_DB


def test_a_fast_path_that_the_user_switched_off_stays_so_back_in_float():
    model = encoder()
    model.layers[0].activation_relu_or_gelu = 0
    floats = to_float(quantize(model, sequences(), scheme="int8-dynamic").model)
    assert [layer.activation_relu_or_gelu for layer in floats.layers] == [0, 1]


class Shared(nn.Module):
    """Two attentions, and a Linear beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = awake(nn.MultiheadAttention(SIZE, 4, batch_first=True))
        self.second = awake(nn.MultiheadAttention(SIZE, 4, batch_first=True))
        self.linear = nn.Linear(SIZE, SIZE)

    def forward(self, x: Tensor) -> Tensor:
        for attention in (self.first, self.second):
            x = x + attention(x, x, x, need_weights=False)[0]
        return self.linear(x)


@BOTH
def test_one_attention_in_two_places_is_one_quantized_attention(scheme: str, tmp_path: Path):
    model = Shared()
    model.second = model.first
    quantized = assert_near(model, sequences(), tmp_path, scheme=scheme)
    assert quantized.first is quantized.second
    assert quantized_names(quantized) == ["first", "first.out_proj", "linear"]


@BOTH
def test_one_output_projection_in_two_attentions_is_one_quantized_layer(scheme: str, tmp_path: Path):
    model = Shared()
    model.second.out_proj = model.first.out_proj
    quantized = assert_near(model, sequences(), tmp_path, scheme=scheme)
    assert quantized.first.out_proj is quantized.second.out_proj
    assert isinstance(quantized.first.out_proj, QuantizedLinear)


@BOTH
def test_it_stays_in_float_when_one_of_them_does(scheme: str, tmp_path: Path):
    model = Shared()
    model.second.out_proj = model.first.out_proj
    plan = Quantizer(scheme, exclude="second").plan(model)
    assert plan.kept["first.out_proj"] == READ.format("second")
    quantized = assert_near(model, sequences(), tmp_path, scheme=scheme, exclude="second")
    assert quantized_names(quantized) == ["first", "linear"]


@BOTH
def test_an_output_projection_that_is_a_layer_elsewhere_too_is_one_quantized_layer(scheme: str, tmp_path: Path):
    model = Shared()
    model.linear = NonDynamicallyQuantizableLinear(SIZE, SIZE)
    model.first.out_proj = model.linear
    quantized = assert_near(model, sequences(), tmp_path, scheme=scheme)
    assert quantized.first.out_proj is quantized.linear
    assert isinstance(quantized.linear, QuantizedLinear)


def test_under_its_other_name_it_is_kept_where_the_attention_is():
    model = Shared()
    model.first.out_proj, model.linear = nn.Linear(SIZE, SIZE), model.first.out_proj
    model.first.out_proj = model.linear
    plan = Quantizer("int8-dynamic", exclude="first").plan(model)
    (kept,) = (plan.kept[entry.name] for entry in plan.entries if "linear" in (entry.name, *entry.also))
    assert kept == READ.format("first")


def test_an_ordinary_linear_as_output_projection_is_kept_where_its_input_would_have_to_be_watched(tmp_path: Path):
    model = Attentive()
    model.attention.out_proj = nn.Linear(SIZE, SIZE)
    assert "attention.out_proj" in Quantizer("int8-dynamic").plan(model).layers
    assert Quantizer("int8-static").plan(model).kept["attention.out_proj"] == READ.format("attention")
    for scheme in ("int8-dynamic", "int8-static"):
        assert_near(model, sequences(), tmp_path, scheme=scheme)


@BOTH
def test_attentions_with_one_weight_share_its_codes(scheme: str, tmp_path: Path):
    model = Shared()
    model.second.in_proj_weight = model.first.in_proj_weight
    quantized = assert_near(model, sequences(), tmp_path, scheme=scheme)
    assert quantized.first.in_proj_weight is quantized.second.in_proj_weight
    assert quantized.first.in_proj_weight_scale is quantized.second.in_proj_weight_scale
    assert quantized.first.in_proj_bias is not quantized.second.in_proj_bias
    floats = to_float(quantized)
    assert floats.first.in_proj_weight is floats.second.in_proj_weight


@BOTH
def test_a_weight_tied_to_a_float_one_keeps_the_attention_and_what_is_inside(scheme: str):
    model = Shared()
    model.table = nn.Embedding(3 * SIZE, SIZE)
    model.first.in_proj_weight = model.table.weight
    plan = Quantizer(scheme).plan(model)
    assert plan.kept["first"] == "a parameter of it is tied to 'table', which stays in float"
    assert plan.kept["first.out_proj"] == READ.format("first")
    assert set(plan.layers) == {"second", "second.out_proj", "linear"}


class Peeking(Shared):
    """Reads a weight of an attention that it does not own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.get_parameter(self.name).mean()


@BOTH
def test_attention_whose_weight_the_model_reads_itself_is_kept_with_what_is_inside(scheme: str, tmp_path: Path):
    model = Peeking("first.in_proj_weight")
    result = quantize(model, sequences(), scheme=scheme)
    assert result.info.skipped_layers["first"] == "its weight is also read by mean, outside the layer"
    assert result.info.skipped_layers["first.out_proj"] == READ.format("first")
    assert result.info.selected_layers == ("second", "second.out_proj", "linear")
    assert_near(model, sequences(), tmp_path, scheme=scheme)


@BOTH
def test_an_output_projection_whose_weight_the_model_reads_itself_is_kept_alone(scheme: str, tmp_path: Path):
    model = Peeking("first.out_proj.weight")
    result = quantize(model, sequences(), scheme=scheme)
    assert result.info.skipped_layers["first.out_proj"] == "its weight is also read by mean, outside the layer"
    assert result.info.selected_layers == ("first", "second", "second.out_proj", "linear")
    assert_near(model, sequences(), tmp_path, scheme=scheme)


class OwnForward(nn.MultiheadAttention):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, **options: bool) -> tuple[Tensor, Tensor | None]:
        output, weights = super().forward(q, k, v, **options)
        return output * 2, weights


class OwnName(nn.MultiheadAttention):
    pass


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


def parametrized(name: str) -> nn.MultiheadAttention:
    layer = nn.MultiheadAttention(SIZE, 4)
    owner = layer if name == "in_proj_weight" else layer.out_proj
    parametrize.register_parametrization(owner, name.rpartition(".")[2], Halved())
    return layer


@BOTH
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: OwnForward(SIZE, 4), "OwnForward overrides MultiheadAttention.forward, so its function is not known"),
        (
            lambda: nn.MultiheadAttention(SIZE, 4, add_bias_kv=True),
            "it appends rows of its own to keys and values (add_bias_kv, add_zero_attn)",
        ),
        (
            lambda: nn.MultiheadAttention(SIZE, 4, add_zero_attn=True),
            "it appends rows of its own to keys and values (add_bias_kv, add_zero_attn)",
        ),
        (
            lambda: parametrized("in_proj_weight"),
            "its in_proj_weight is computed, not a parameter (parametrized or weight-normalised); remove that first",
        ),
    ],
    ids=["own forward", "bias_kv", "zero_attn", "parametrized"],
)
def test_attention_that_cannot_be_quantized_says_why_and_works(
    scheme: str, make: Callable[[], nn.Module], reason: str, tmp_path: Path
):
    model = Attentive(batch_first=False)
    model.attention = awake(make())
    plan = Quantizer(scheme).plan(model)
    assert plan.kept["attention"] == reason
    assert plan.kept["attention.out_proj"].endswith("'attention' may read its weight without calling it")
    assert set(plan.layers) == {"head"}
    assert_near(model, sequences(), tmp_path, scheme=scheme)


@BOTH
def test_a_subclass_that_changes_nothing_is_quantized(scheme: str, tmp_path: Path):
    model = Attentive()
    model.attention = awake(OwnName(SIZE, 4, batch_first=True))
    assert_near(model, sequences(), tmp_path, scheme=scheme)
    assert Quantizer(scheme).plan(model).layers["attention"].layer_type == "MultiheadAttention"


@BOTH
def test_a_parametrized_output_projection_is_read_as_torch_reads_it(scheme: str, tmp_path: Path):
    model = Attentive(batch_first=False)
    model.attention = awake(parametrized("out_proj.weight"))
    quantized = assert_near(model, sequences(), tmp_path, scheme=scheme)
    assert quantized_names(quantized) == ["attention", "head"]


class Wrapped(nn.Module):
    """An output projection with a layer inside, as adapters make it: torch's attention reads ``weight`` alone."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.more = base, nn.Linear(SIZE, SIZE)

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def bias(self) -> Tensor:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.more(x)


@BOTH
def test_layers_inside_an_output_projection_stay_in_float_and_are_read_as_torch_reads_them(scheme: str, tmp_path: Path):
    model = Attentive()
    model.attention.out_proj = Wrapped(model.attention.out_proj)
    plan = Quantizer(scheme).plan(model)
    assert plan.kept["attention.out_proj.base"] == READ.format("attention")
    assert set(plan.layers) == {"attention", "head"}
    assert_near(model, sequences(), tmp_path, scheme=scheme)


def test_hooks_of_an_attention_go_on():
    model, seen = Attentive(), []
    model.attention.register_forward_hook(lambda _, __, output: seen.append(tuple(output[0].shape)))
    quantized = quantize(model, sequences(), scheme="int8-dynamic", validators=()).model
    seen.clear()
    run(quantized, sequences(1)[0])
    assert seen == [(3, LENGTH, SIZE)]


def test_min_parameters_keeps_small_attention_with_its_output_projection():
    plan = Quantizer("int8-dynamic", min_parameters=3 * SIZE * SIZE + 1).plan(Attentive())
    assert (
        plan.kept["attention"] == f"it has {3 * SIZE * SIZE} weights, fewer than min_parameters={3 * SIZE * SIZE + 1}"
    )
    assert plan.layers == {}


def test_of_include_too_the_attention_is_needed_for_its_output_projection():
    with pytest.raises(ConfigurationError, match="nothing would be quantized"):
        quantize(Attentive(), sequences(), scheme="int8-dynamic", include="*.out_proj")
    assert set(Quantizer("int8-dynamic", include="attention*").plan(Attentive()).layers) == {
        "attention", "attention.out_proj",
    }  # fmt: skip


@pytest.mark.parametrize("saturation", ["pair-safe", "full-range"])
def test_codes_obey_the_saturation_rule_in_every_projection(saturation: str):
    layer = nn.MultiheadAttention(SIZE, 4)
    nn.init.constant_(layer.in_proj_weight, 1.0)
    scheme = Int8Dynamic(saturation=saturation)
    module = scheme.convert(layer, scheme.plan("layer", layer), {})
    assert int(module.in_proj_weight.max()) == (64 if saturation == "pair-safe" else 127)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_by_name(wrong: float):
    model = Attentive(kdim=SIZE, vdim=SIZE)
    model.attention.in_proj_weight.data[0, 0] = wrong
    with pytest.raises(TypeError, match=r"'attention' has weights \(in_proj_weight\) that are not finite"):
        quantize(model, None, scheme="int8-dynamic")


@BOTH
def test_only_quantized_attention_can_be_quantized_again(scheme: str):
    quantized = quantize(Attentive(), sequences(), scheme=scheme).model
    plan = make_plan(quantized, Int8Static().plan)
    assert plan.layers == {}
    assert plan.kept["attention"] == "int8-static does not quantize QuantizedMultiheadAttention"
    again = quantize(to_float(quantized), sequences(), scheme=scheme)
    assert set(again.info.selected_layers) == {"attention", "attention.out_proj", "head"}


@BOTH
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_attention_of_another_precision_keeps_it_at_its_ends_and_back_in_float(scheme: str, dtype: torch.dtype):
    model, data = encoder().to(dtype), [x.to(dtype) for x in sequences()]
    quantized = quantize(model, data, scheme=scheme).model
    assert run(quantized, data[0]).dtype == dtype
    assert sqnr(run(model, data[0]), run(quantized, data[0])) > ENOUGH_DB
    floats = to_float(quantized)
    assert {tensor.dtype for tensor in floats.state_dict().values()} == {dtype}
    assert sqnr(run(model, data[0]), run(floats, data[0])) > ENOUGH_DB


def test_cast_after_quantizing_it_is_cast_back_in_float():
    quantized = quantize(encoder(), sequences(), scheme="int8-dynamic").model.to(torch.float64)
    assert {tensor.dtype for tensor in to_float(quantized).state_dict().values()} == {torch.float64}


def test_a_file_that_names_other_weights_than_the_attention_has_is_refused():
    scheme, layer = Int8Dynamic(), nn.MultiheadAttention(SIZE, 4)
    plan = scheme.plan("attention", layer)
    wrong = attrs.evolve(
        plan, weights={"in_proj_bias": attrs.evolve(plan.weights["in_proj_weight"], shape=(3 * SIZE,))}
    )
    with pytest.raises(UnsupportedLayerError, match="its weights are in_proj_weight, not in_proj_bias"):
        scheme.restore(layer, wrong)
