"""Layers with weights stored as codes compute what the float layers compute with the weights that those stand for."""

import pytest
import torch
from torch import Tensor, nn
from weight_only_cases import CASES, EVERY_CASE, EVERY_SCHEME, NO_ONEDNN, Case, Holder, assert_same, quantized, twin

from mono_quant.modules import QuantizedModule

pytestmark = NO_ONEDNN


@EVERY_SCHEME
@EVERY_CASE
def test_it_gives_what_the_float_layer_gives_with_those_weights(case: Case, scheme: str):
    model = case.model()
    module = quantized(model, scheme)
    expected = twin(model, module)
    assert isinstance(module.layer, QuantizedModule)
    assert isinstance(module.layer, type(model.layer))
    with torch.no_grad():
        for call in case.calls():
            assert_same(module(*call), expected(*call))
            assert_same(module(*call), expected(*call))


@EVERY_CASE
def test_it_does_so_where_gradients_are_recorded_and_in_training(case: Case):
    model = case.model()
    module = quantized(model, "int4")
    expected = twin(model, module)
    for call in case.calls():
        assert_same(module(*call), expected(*call))
    module.train()
    expected.train()
    for call in case.calls():
        torch.manual_seed(1)
        actual = module(*call)
        torch.manual_seed(1)
        assert_same(actual, expected(*call))


@EVERY_CASE
def test_it_does_so_in_inference_mode_and_after_it(case: Case):
    model = case.model()
    module = quantized(model, "int8")
    expected = twin(model, module)
    with torch.inference_mode():
        for call in case.calls():
            assert_same(module(*call), expected(*call))
    for call in case.calls():
        assert_same(module(*call), expected(*call))


@EVERY_CASE
def test_its_weights_differ_from_the_float_ones_and_those_are_untouched(case: Case):
    model = case.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    module = quantized(model, "int8")
    for name, spec in module.layer.weight_specs.items():
        weight = getattr(module.layer, name)
        assert (type(weight), weight.shape, weight.dtype) == (Tensor, spec.shape, torch.float32)
        difference = (weight - before[f"layer.{name}"]).abs().max()
        assert 0 < difference <= before[f"layer.{name}"].abs().max() / 250
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_every_layer_that_is_known_is_tested():
    known = {
        "Linear", "Bilinear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
        "Embedding", "EmbeddingBag", "LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell",
    }  # fmt: skip
    assert {type(case.make()).__name__ for case in CASES.values()} == known


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("channels", [1, 31])
def test_an_input_whose_rows_are_not_neighbours_in_memory_is_right_to_rounding(scheme: str, channels: int):
    model = Holder(nn.Linear(64, channels)).eval()
    module = quantized(model, scheme)
    x = torch.randn(5, 3, 64).transpose(0, 1)
    actual, expected = module(x), twin(model, module).double()(x.double())
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 64 * 2**-24 * x.abs().sum(dim=-1).max()


@pytest.mark.parametrize("index", [9, -1, -9, 2**40])
@pytest.mark.parametrize("make", [lambda: nn.Embedding(9, 4), lambda: nn.EmbeddingBag(9, 4)], ids=["rows", "bags"])
def test_an_index_that_is_not_in_the_table_is_an_error(make: type[nn.Module], index: int):
    model = Holder(make()).eval()
    module = quantized(model, "int8")
    indices = torch.tensor([[0, index]])
    for one in (model, module):
        with pytest.raises((IndexError, RuntimeError)):
            one(indices)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int16], ids=str)
@pytest.mark.parametrize("make", [lambda: nn.Embedding(9, 4), lambda: nn.EmbeddingBag(9, 4)], ids=["rows", "bags"])
def test_an_index_that_is_no_index_is_an_error(make: type[nn.Module], dtype: torch.dtype):
    model = Holder(make()).eval()
    module = quantized(model, "int8")
    indices = torch.ones(2, 2, dtype=dtype)
    for one in (model, module):
        with pytest.raises(RuntimeError):
            one(indices)


def test_an_input_of_another_width_is_an_error_that_says_so():
    module = quantized(Holder(nn.Linear(8, 4)), "int8")
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"expected an input of shape \(..., 8\), got \[3, 7\]"):
        module(torch.randn(3, 7))
    with pytest.raises(RuntimeError):
        module(torch.randn(3, 7))
