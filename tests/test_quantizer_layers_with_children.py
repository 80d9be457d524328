"""Layers that have other layers inside: an own padding, an adapter, and what becomes of both."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.errors import ConfigurationError
from mono_quant.functional import dequantize_model


class PaddedConv2d(nn.Conv2d):
    """It pads by a child, in a ``forward`` of its own."""

    def __init__(self, *arguments: int, **options: int) -> None:
        super().__init__(*arguments, **options)
        self.padded = nn.ZeroPad2d((0, 1, 1, 0))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(self.padded(x), self.weight, self.bias, self.stride, 0)


class Adapted(nn.Linear):
    """A Linear with two more inside, of low rank."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size)
        self.down, self.up = nn.Linear(size, 4, bias=False), nn.Linear(4, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.up(self.down(x))


def model() -> nn.Module:
    return nn.Sequential(PaddedConv2d(3, 8, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 8 * 8, 16), Adapted(16)).eval()


LAYERS = ["0", "3", "4", "4.down", "4.up"]
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def weight_only(**options: object) -> Quantizer:
    return Quantizer({"name": "int4-weight-only", "misfit": "adjust"}, kernel="dequantize", **options)


def test_their_weights_and_those_inside_are_quantized():
    result = weight_only().quantize(model(), [X])
    assert list(result.plan.layers) == LAYERS
    for name in LAYERS:
        assert result.model.get_submodule(name).weight_specs["weight"].dtype.bits == 4


def test_they_compute_with_the_weights_that_their_codes_stand_for():
    floats, by_hand = model(), model()
    quantized = weight_only(validators=()).quantize(floats).model
    by_hand.load_state_dict(floats.state_dict())
    for name in LAYERS:
        by_hand.get_submodule(name).weight.data.copy_(quantized.get_submodule(name).dequantized())
    with torch.no_grad():
        assert torch.equal(quantized(X), by_hand(X))


def test_back_in_float_they_have_their_own_classes_and_names():
    floats = model()
    quantized = weight_only(validators=()).quantize(floats).model
    again = dequantize_model(quantized)
    assert [type(module) for module in again.modules()] == [type(module) for module in floats.modules()]
    assert list(again.state_dict()) == list(floats.state_dict())
    with torch.no_grad():
        assert torch.equal(again(X), quantized(X))


def test_they_are_saved_and_loaded(tmp_path: Path):
    result = weight_only().quantize(model(), [X])
    result.save(tmp_path / "model.safetensors")
    loaded = weight_only().load(tmp_path / "model.safetensors", model)
    with torch.no_grad():
        assert torch.equal(loaded(X), result.model(X))


@pytest.mark.parametrize("pattern", ["4", PaddedConv2d, r"re:[04]"])
def test_patterns_may_name_them(pattern: str | type[nn.Module]):
    named = {"4": ["4"], PaddedConv2d: ["0"], r"re:[04]": ["0", "4"]}[pattern]
    assert list(weight_only(include=[pattern]).plan(model()).layers) == named
    assert list(weight_only(exclude=[pattern]).plan(model()).layers) == [n for n in LAYERS if n not in named]


def test_where_inputs_are_quantized_too_they_stay_in_float_for_their_own_forward():
    plan = Quantizer("int8-static").plan(model())
    assert list(plan.layers) == ["3", "4.down", "4.up"]
    assert "PaddedConv2d overrides Conv2d.forward" in plan.kept["0"]
    assert "Adapted overrides Linear.forward" in plan.kept["4"]


def test_a_container_without_parameters_is_still_no_layer():
    with pytest.raises(ConfigurationError, match="'blocks' matches no layer"):
        weight_only(include=["blocks"]).plan(nn.ModuleDict({"blocks": model()}))
