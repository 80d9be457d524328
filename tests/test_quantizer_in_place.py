"""Quantizing a model where it is."""

from pathlib import Path

import pytest
import torch
from small_models import FEATURES, ConvNet, images, mlp, quantize, quantized_names, rows, run
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.errors import ConfigurationError


class Uncopyable(nn.Module):
    """As models are that hold a lock, a socket or a database."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(FEATURES, FEATURES)

    def __deepcopy__(self, memo: object) -> None:
        message = "cannot pickle a lock"
        raise TypeError(message)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(FEATURES, FEATURES)
        self.b = self.a
        self.inner = nn.ModuleList([nn.Sequential(self.a)])

    def forward(self, x: Tensor) -> Tensor:
        return self.inner[0](self.b(self.a(x)))


@pytest.mark.parametrize("validators", [("sqnr", "load-run"), ()], ids=["validated", "not validated"])
def test_in_place_the_model_itself_is_quantized(validators: tuple[str, ...]):
    torch.manual_seed(0)
    model, data = ConvNet(), images()
    expected = run(quantize(model, data, kernel="reference").model, data[0])
    result = quantize(model, data, kernel="reference", inplace=True, validators=validators)
    assert result.model is model
    assert quantized_names(model) == ["conv", "head"]
    assert torch.equal(run(model, data[0]), expected)


def test_in_place_a_shared_layer_is_replaced_under_all_its_names():
    model = Twice()
    quantize(model, rows(), inplace=True)
    assert quantized_names(model) == ["a"]
    assert model.a is model.b
    assert model.a is model.inner[0][0]


def test_a_model_that_cannot_be_copied_is_named_with_the_way_out():
    model = Uncopyable()
    with pytest.raises(ConfigurationError, match=r"Uncopyable.*cannot pickle a lock.*inplace=True and validators=\(\)"):
        quantize(model, rows())
    assert quantized_names(model) == []


def test_that_way_out_works():
    model = Uncopyable()
    result = quantize(model, rows(), inplace=True, validators=())
    assert result.model is model
    assert quantized_names(model) == ["fc"]
    assert set(result.info.kernels) == {"fc"}


def test_a_model_that_is_one_layer_cannot_be_quantized_in_place():
    with pytest.raises(ConfigurationError, match="itself a single layer"):
        quantize(nn.Linear(FEATURES, FEATURES), rows(), inplace=True)


def test_a_model_quantized_in_place_is_saved_and_loaded(tmp_path: Path):
    model, data = mlp(), rows()
    result = quantize(model, data, inplace=True, kernel="reference")
    result.save(tmp_path / "model.safetensors")
    loaded = Quantizer(kernel="reference").load(tmp_path / "model.safetensors", mlp)
    assert torch.equal(run(loaded, data[0]), run(model, data[0]))


def test_quantizing_what_is_quantized_already_is_refused():
    result = quantize(mlp(), rows())
    with pytest.raises(ConfigurationError, match="are quantized already"):
        quantize(result.model, rows())


class InPlainContainers(nn.Module):
    """Layers that are called through a list, a dictionary and a tuple, beside being registered."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(FEATURES, FEATURES) for _ in range(3))
        self.steps = [self.a, {"b": self.b}, (self.c, "text")]

    def forward(self, x: Tensor) -> Tensor:
        return self.steps[2][0](self.steps[1]["b"](self.steps[0](x)))


def test_layers_in_plain_containers_are_replaced_too():
    model = InPlainContainers()
    with torch.no_grad():
        floats = model(rows()[0])
        result = quantize(model, rows(), inplace=True)
        assert not torch.equal(result.model(rows()[0]), floats)
    assert model.steps == [model.a, {"b": model.b}, (model.c, "text")]
    assert set(quantized_names(model)) == {"a", "b", "c"}
