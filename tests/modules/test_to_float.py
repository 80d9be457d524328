"""Back from quantized layers to plain float ones."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import ConvNet, Tied, images, tokens
from torch import Tensor, nn
from weight_only_cases import (
    CASES,
    EVERY_CASE,
    EVERY_SCHEME,
    NO_ONEDNN,
    SCHEMES,
    Case,
    Holder,
    assert_same,
    quantized,
    quantizer,
    twin,
)

from mono_quant import Quantizer, dequantize_model
from mono_quant.core.encoding import decode
from mono_quant.errors import ArtifactError
from mono_quant.io import load_model, save_model
from mono_quant.modules import QuantizedModule, share_tied, to_float

pytestmark = NO_ONEDNN


def decoded(module: nn.Module) -> dict[str, Tensor]:
    """Each quantized weight of a model, by its name."""
    state = module.state_dict()
    return {
        f"{name}.{weight}": decode({suffix: state[f"{name}.{weight}{suffix}"] for suffix in spec.layout}, spec)
        for name, layer in module.named_modules()
        if isinstance(layer, QuantizedModule)
        for weight, spec in layer.weight_specs.items()
    }


@EVERY_SCHEME
@EVERY_CASE
def test_it_is_a_plain_layer_with_exactly_the_weights_that_the_codes_stand_for(case: Case, scheme: str):
    model = case.model()
    module = quantized(model, scheme)
    floated = to_float(module)
    assert type(floated.layer) is type(model.layer)
    assert list(floated.state_dict()) == list(model.state_dict())
    assert [name for name, _ in floated.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert set(vars(floated.layer)) == set(vars(model.layer))
    weights = decoded(module)
    for name, tensor in floated.state_dict().items():
        assert_same(tensor, weights.get(name, model.state_dict()[name]))
    with torch.no_grad():
        for call in case.calls():
            expected = twin(model, module).requires_grad_()
            assert_same(floated(*call), expected(*call))


@EVERY_CASE
def test_neither_model_changes_with_the_other(case: Case):
    model = case.model()
    module = quantized(model, "int8")
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    floated = to_float(module)
    with torch.no_grad():
        for tensor in floated.state_dict().values():
            tensor.zero_()
    assert_same(list(module.state_dict().values()), list(before.values()))
    assert isinstance(module.layer, QuantizedModule)


@EVERY_CASE
def test_it_can_be_trained_and_quantized_again_to_the_same_codes(case: Case):
    module = quantized(case.model(), "int8")
    floated = to_float(module)
    assert all(parameter.requires_grad for parameter in floated.parameters())
    again = quantized(floated, "int8")
    for name, tensor in module.state_dict().items():
        other = again.state_dict()[name]
        assert torch.equal(other, tensor) if not name.endswith("_scale") else torch.allclose(other, tensor, rtol=2e-7)


@EVERY_SCHEME
def test_a_loaded_model_goes_back_to_the_same(scheme: str, tmp_path: Path):
    for case in (CASES["lstm-deep"], CASES["linear"], CASES["bag-sum"]):
        result = quantizer(scheme).quantize(case.model())
        result.save(tmp_path / "model.safetensors")
        loaded = quantizer(scheme).load(tmp_path / "model.safetensors", case.model)
        assert list(to_float(loaded).state_dict()) == list(case.model().state_dict())
        assert_same(list(to_float(loaded).state_dict().values()), list(to_float(result.model).state_dict().values()))


@pytest.mark.parametrize("is_loaded", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_tied_weights_are_tied_again(scheme: str, tmp_path: Path, *, is_loaded: bool):
    model = Tied()
    result = Quantizer(SCHEMES[scheme], validators=()).quantize(model)
    module = result.model
    if is_loaded:
        result.save(tmp_path / "model.safetensors")
        module = quantizer(scheme).load(tmp_path / "model.safetensors", Tied)
    floated = to_float(module)
    assert floated.up.weight is floated.down.weight
    assert floated.head.weight is floated.table.weight
    assert list(floated.state_dict()) == list(model.state_dict())
    assert len(list(floated.parameters())) == len(list(model.parameters()))
    assert_same(floated.up.weight.detach(), decoded(module)["up.weight"])
    assert type(floated.table.weight) is nn.Parameter


def test_weights_that_were_not_tied_are_not():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].load_state_dict(model[0].state_dict())
    floated = to_float(quantized(model, "int8"))
    assert floated[0].weight is not floated[1].weight


def test_weights_of_different_names_are_tied_again():
    cell, rnn = nn.GRUCell(5, 8), nn.GRU(5, 8)
    cell.weight_ih, cell.weight_hh = rnn.weight_ih_l0, rnn.weight_hh_l0
    module = quantized(nn.ModuleDict({"rnn": rnn, "cell": cell}), "int8")
    assert module["cell"]._buffers["weight_ih"] is module["rnn"]._buffers["weight_ih_l0"]
    floated = to_float(module)
    assert floated["cell"].weight_hh is floated["rnn"].weight_hh_l0


def test_codes_that_are_equal_with_scales_that_are_not_are_not_tied():
    """In float8, 447 and 448 have one code: the scale tells them apart."""
    weight = torch.full((1, 32), 448.0)
    weight[0, 16:] = 447.0
    model = nn.ModuleDict({"whole": nn.Linear(32, 1), "groups": nn.Linear(32, 1)})
    with torch.no_grad():
        model["whole"].weight.copy_(weight)
        model["groups"].weight.copy_(weight)
    grouped = {"name": "float8-weight-only", "granularity": "per-group", "group_size": 16}
    overrides = {"groups": {"scheme": grouped}}
    module = Quantizer("float8-weight-only", overrides=overrides, validators=()).quantize(model).model
    model["groups"].weight = model["whole"].weight
    share_tied(dict(model.named_children()), dict(module.named_children()))
    assert torch.equal(module["whole"]._parameters["weight"].float(), module["groups"]._parameters["weight"].float())
    floated = to_float(module)
    assert floated["whole"].weight[0, 20] == 448.0
    assert floated["groups"].weight[0, 20] == 447.0


def test_a_module_that_stands_in_several_places_stands_in_all_of_them_again():
    shared = nn.Linear(8, 8)
    model = nn.ModuleDict({"first": nn.Sequential(shared, nn.ReLU()), "second": shared})
    floated = to_float(quantized(model, "int8"))
    assert floated["first"][0] is floated["second"]
    assert type(floated["second"]) is nn.Linear


def test_the_output_projection_of_attention_that_is_also_used_alone_is_float_in_both_places():
    attention = nn.MultiheadAttention(8, 2)
    model = nn.ModuleDict({"attention": attention, "projection": attention.out_proj})
    module = quantized(model, "int8")
    assert module["attention"].out_proj is module["projection"]
    floated = to_float(module)
    assert not any(isinstance(one, QuantizedModule) for one in floated.modules())
    assert floated["attention"].out_proj.weight is floated["projection"].weight


def test_a_model_that_is_one_layer_goes_back():
    layer = nn.LSTM(5, 8)
    module = quantized(layer, "int8")
    floated = to_float(module)
    assert type(floated) is nn.LSTM
    assert list(floated.state_dict()) == list(layer.state_dict())


def test_a_mixed_model_goes_back(tmp_path: Path):
    model, data = ConvNet().eval(), images()
    module = (
        Quantizer("int8-static", overrides={"head": {"scheme": "int8-weight-only"}}, algorithms=(), validators=())
        .quantize(model, data)
        .model
    )
    floated = dequantize_model(module)
    weights = decoded(module)
    assert set(weights) == {"conv.weight", "head.weight"}
    assert list(floated.state_dict()) == list(model.state_dict())
    for name, tensor in floated.state_dict().items():
        assert_same(tensor, weights.get(name, model.state_dict()[name]))
    save_model(floated, tmp_path / "float.safetensors")
    fresh = ConvNet().eval()
    fresh.load_state_dict(load_model(tmp_path / "float.safetensors"))
    with torch.no_grad():
        assert_same(fresh(data[0]), floated(data[0]))


@pytest.mark.parametrize("make", [Tied, lambda: nn.Linear(8, 4)], ids=["model", "layer"])
def test_the_float_model_is_saved_as_a_float_model(make: type[nn.Module], tmp_path: Path):
    model = make()
    floated = dequantize_model(quantized(model, "int8"))
    save_model(floated, tmp_path / "float.safetensors")
    make().load_state_dict(load_model(tmp_path / "float.safetensors"))
    with pytest.raises(ArtifactError, match="it is not a quantized model"):
        quantizer("int8").load(tmp_path / "float.safetensors", make)
    again = quantized(floated, "int4")
    assert any(isinstance(one, QuantizedModule) for one in again.modules())


def test_parameters_that_were_added_to_a_quantized_layer_stay():
    class Adapted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            extra = getattr(self, "extra", None)
            return super().forward(x) + (0 if extra is None else extra)

    module = quantized(Holder(Adapted(8, 4)), "int8")
    module.layer.extra = nn.Parameter(torch.ones(4))
    x = torch.randn(3, 8)
    floated = to_float(module)
    assert list(floated.state_dict()) == ["layer.weight", "layer.bias", "layer.extra"]
    assert_same(floated(x).detach(), twin_output(module, x))


def twin_output(module: nn.Module, x: Tensor) -> Any:  # noqa: ANN401
    with torch.no_grad():
        weight, bias = copy.copy(module.layer.dequantized()), module.layer.bias
        return nn.functional.linear(x, weight, bias) + module.layer.extra


def test_embedding_and_output_layer_give_the_same_logits_as_the_tied_model():
    model = Tied().eval()
    module = quantized(model, "int4")
    floated = to_float(module)
    with torch.no_grad():
        for batch in tokens():
            assert_same(floated(batch), module(batch))
