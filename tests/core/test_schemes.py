"""What the int8 schemes make of layers, and what they refuse."""

import copy
from collections.abc import Callable

import attrs
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from mono_quant.core.granularity import PerChannel, PerGroup, PerTensor, PerToken
from mono_quant.core.observers import MinMaxObserver
from mono_quant.core.qtypes import INT8, UINT8
from mono_quant.core.schemes import Int4WeightOnly, Int8Dynamic, Int8Static, Int8WeightOnly
from mono_quant.errors import ConfigurationError, UnsupportedLayerError
from mono_quant.modules import QuantizedConv1d, QuantizedConv2d, QuantizedConv3d, QuantizedLinear, QuantizedModule
from mono_quant.plugin_api.plan import Keep, LayerPlan, TensorSpec, WeightSpec
from mono_quant.plugin_api.scheme import Scheme

LAYERS = {
    QuantizedLinear: lambda **options: nn.Linear(6, 9, **options),
    QuantizedConv1d: lambda **options: nn.Conv1d(6, 9, 3, **options),
    QuantizedConv2d: lambda **options: nn.Conv2d(6, 9, 3, **options),
    QuantizedConv3d: lambda **options: nn.Conv3d(6, 9, 3, **options),
}
EVERY_LAYER = pytest.mark.parametrize(
    ("quantized_type", "make"), LAYERS.items(), ids=[quantized_type.__name__ for quantized_type in LAYERS]
)


def plan_of(layer: nn.Module) -> LayerPlan:
    plan = Int8Static().plan("some.layer", layer)
    assert isinstance(plan, LayerPlan)
    return plan


def convert(layer: nn.Module, scheme: Int8Static | None = None) -> QuantizedModule:
    observer = MinMaxObserver("uint8")
    observer.forward(torch.tensor([-1.0, 1.0]))
    return (scheme or Int8Static()).convert(layer, plan_of(layer), {"input": observer})


@EVERY_LAYER
@pytest.mark.parametrize("bias", [True, False])
def test_it_plans_and_converts_every_layer_type(
    quantized_type: type[QuantizedModule], make: Callable[..., nn.Module], *, bias: bool
):
    layer = make(bias=bias)
    plan, module = plan_of(layer), convert(layer)
    assert (plan.name, plan.layer_type, plan.scheme) == ("some.layer", type(layer).__name__, "int8-static")
    assert plan.weights == {
        "weight": WeightSpec(
            dtype=INT8,
            symmetric=True,
            granularity=PerChannel(0),
            shape=tuple(layer.weight.shape),
        )
    }
    assert plan.input == TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor())
    assert plan.needs_data
    assert ("bias" in module.state_dict()) == bias
    assert type(module) is quantized_type
    assert plan.quantized_bytes == sum(t.numel() * t.element_size() for t in module.state_dict().values())


@EVERY_LAYER
@pytest.mark.parametrize("bias", [True, False])
def test_what_it_restores_has_the_same_tensors_on_meta(
    quantized_type: type[QuantizedModule], make: Callable[..., nn.Module], *, bias: bool
):
    layer = make(bias=bias).eval()
    restored, converted = Int8Static().restore(layer, plan_of(layer)), convert(layer)
    assert type(restored) is quantized_type
    assert not restored.training
    assert {t.device.type for t in restored.state_dict().values()} == {"meta"}
    assert {name: (t.dtype, t.shape) for name, t in restored.state_dict().items()} == {
        name: (t.dtype, t.shape) for name, t in converted.state_dict().items()
    }


@EVERY_LAYER
def test_it_leaves_the_float_layer_as_it_is(quantized_type: type[QuantizedModule], make: Callable[..., nn.Module]):
    layer = make()
    before = copy.deepcopy(layer.state_dict())
    assert type(convert(layer)) is quantized_type
    assert all(torch.equal(layer.state_dict()[name], tensor) for name, tensor in before.items())
    assert [p.requires_grad for p in layer.parameters()] == [True, True]


def test_a_plan_needs_no_numbers():
    assert plan_of(nn.Linear(6, 9, device="meta")).weights["weight"].shape == (9, 6)


def test_a_computed_bias_is_taken_as_it_is():
    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "bias", nn.Softplus())
    assert torch.equal(convert(layer).bias, layer.bias)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.half, torch.bfloat16, torch.float64], ids=str)
def test_weights_that_are_not_finite_are_an_error_that_names_the_layer(value: float, dtype: torch.dtype):
    layer = nn.Linear(6, 9, dtype=dtype)
    layer.weight.data[4, 2] = value
    with pytest.raises(UnsupportedLayerError, match=r"layer 'some\.layer' has weights that are not finite"):
        convert(layer)


def test_weights_that_float32_cannot_hold_are_an_error_too():
    layer = nn.Linear(6, 9, dtype=torch.float64)
    layer.weight.data[4, 2] = 1e39
    with pytest.raises(UnsupportedLayerError, match="not finite in float32"):
        convert(layer)


@pytest.mark.parametrize(("saturation", "largest"), [("pair-safe", 64), ("full-range", 127)])
def test_the_option_saturation_decides_how_far_codes_go(saturation: str, largest: int):
    layer = nn.Linear(6, 9)
    nn.init.constant_(layer.weight, -0.3)
    assert convert(layer, Int8Static(saturation=saturation)).weight.unique().tolist() == [-largest]


@pytest.mark.parametrize("scheme", [Int8Static, Int8Dynamic])
@pytest.mark.parametrize("saturation", ["none", "", None, True])
def test_another_saturation_is_an_error_that_lists_the_two(scheme: type[Int8Static], saturation: object):
    with pytest.raises(ConfigurationError, match=r"one of \('pair-safe', 'full-range'\), got "):
        scheme(saturation=saturation)


def test_the_dynamic_scheme_is_for_linear_only():
    scheme = Int8Dynamic()
    assert scheme.plan("c", nn.Conv1d(1, 1, 1)) == Keep("int8-dynamic does not quantize Conv1d")
    plan = scheme.plan("l", nn.Linear(6, 9))
    assert isinstance(plan, LayerPlan)
    assert plan.input == TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor(), is_dynamic=True)
    assert not plan.needs_data
    module = scheme.convert(nn.Linear(6, 9), plan, {})
    assert set(module.state_dict()) == {"weight", "weight_scale", "bias"}
    assert plan.quantized_bytes == sum(t.numel() * t.element_size() for t in module.state_dict().values())


INT8_SCHEMES = pytest.mark.parametrize("scheme", [Int8Static(), Int8Dynamic(), Int8Dynamic(activations="per-token")])
WEIGHT_ONLY = [
    Int8WeightOnly(),
    Int8WeightOnly(symmetric=False, granularity="per-tensor"),
    Int4WeightOnly(group_size=4, misfit="pad"),
]
BY_INPUTS = {"granularity": PerChannel(1)}


def restored(scheme: Scheme, layer: nn.Module, *, input_: object = "as planned", **changes: object) -> nn.Module:
    """What a scheme without options makes of another's plan, with the weights said to be stored in another way."""
    plan = scheme.plan("some.layer", layer)
    assert isinstance(plan, LayerPlan)
    weights = {name: attrs.evolve(spec, **changes) for name, spec in plan.weights.items()}
    plan = attrs.evolve(plan, weights=weights, input=plan.input if input_ == "as planned" else input_)
    return type(scheme)().restore(layer, plan)


@INT8_SCHEMES
@pytest.mark.parametrize(
    "layer", [nn.Linear(6, 9), nn.MultiheadAttention(8, 2)], ids=lambda layer: type(layer).__name__
)
@pytest.mark.parametrize(
    "changes",
    [BY_INPUTS, {"granularity": PerTensor()}, {"granularity": PerGroup(2)}, {"symmetric": False}, {"dtype": "int4"}],
    ids=str,
)
def test_what_int8_never_writes_is_not_restored(scheme: Scheme, layer: nn.Module, changes: dict[str, object]):
    assert isinstance(restored(scheme, layer), QuantizedModule)
    assert isinstance(restored(scheme, layer, float_dtype="float16"), QuantizedModule)
    with pytest.raises(UnsupportedLayerError, match=r"int8-\w+ does not store a \w*weight as int"):
        restored(scheme, layer, **changes)


@INT8_SCHEMES
@pytest.mark.parametrize("changes", [{"dtype": "int8"}, {"symmetric": True}, {"granularity": PerChannel(0)}], ids=str)
def test_inputs_that_int8_never_quantizes_so_are_not_restored(scheme: Int8Static, changes: dict[str, object]):
    changes = {"symmetric": False} if scheme.input_spec.symmetric and "symmetric" in changes else changes
    with pytest.raises(UnsupportedLayerError, match=r"does not quantize its input as"):
        restored(scheme, nn.Linear(6, 9), input_=attrs.evolve(scheme.input_spec, **changes))


def test_tokens_have_no_range_before_they_come():
    spec = TensorSpec(dtype=UINT8, symmetric=True, granularity=PerToken())
    for scheme in (Int8Static(), Int8Dynamic()):
        with pytest.raises(UnsupportedLayerError, match="does not quantize its input as uint8 symmetric per-token"):
            restored(scheme, nn.Linear(6, 9), input_=spec)


@pytest.mark.parametrize("scheme", WEIGHT_ONLY)
@pytest.mark.parametrize("changes", [BY_INPUTS, {"granularity": PerGroup(3, 1)}, {"dtype": "int5"}], ids=str)
def test_what_a_weight_only_scheme_never_writes_is_not_restored(scheme: Scheme, changes: dict[str, object]):
    assert isinstance(restored(scheme, nn.Linear(6, 9)), QuantizedModule)
    with pytest.raises(UnsupportedLayerError, match=r"int\d-weight-only does not store a weight as"):
        restored(scheme, nn.Linear(6, 9), **changes)


def test_a_weight_only_scheme_restores_channels_where_checkpoints_and_layers_have_them():
    layer = nn.ConvTranspose1d(6, 9, 3)
    for axis in (0, 1):
        restored_layer = restored(Int8WeightOnly(), layer, granularity=PerChannel(axis))
        assert restored_layer.state_dict()["weight_scale"].shape == (layer.weight.shape[axis],)


def test_a_weight_only_scheme_restores_no_quantized_input():
    with pytest.raises(UnsupportedLayerError, match="does not quantize its input"):
        restored(
            Int8WeightOnly(), nn.Linear(6, 9), input_=TensorSpec(dtype=UINT8, symmetric=False, granularity="per-tensor")
        )
