"""Backward through layers with weights stored as codes: all but the codes has the gradients of the float layer."""

from typing import Any

import pytest
import torch
from test_weight_only_attention import ATTENTIONS
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from weight_only_cases import CASES, EVERY_SCHEME, NO_ONEDNN, SCHEMES, Case, Holder, assert_same, quantized, twin

from mono_quant import Quantizer
from mono_quant.core.tensors import iter_tensors

pytestmark = NO_ONEDNN

ATTENTION = Case(ATTENTIONS["itself"][0], lambda: [args for args, _ in ATTENTIONS["itself"][1]()])
EVERY_LAYER = {**CASES, "attention": ATTENTION}


def leaves_of(call: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[Tensor]]:
    """The call with inputs that require gradients, and those."""
    inputs = []

    def leaf(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, PackedSequence):
            return value._replace(data=leaf(value.data))
        if isinstance(value, tuple):
            return tuple(map(leaf, value))
        if isinstance(value, Tensor) and value.is_floating_point():
            value = value.detach().clone().requires_grad_()
            inputs.append(value)
        return value

    return tuple(map(leaf, call)), inputs


def gradients(model: nn.Module, call: tuple[Any, ...]) -> list[Tensor]:
    """Of the sum of squares of all outputs, by inputs and by the parameters that are trained."""
    args, inputs = leaves_of(call)
    wanted = [*inputs, *(parameter for parameter in model.parameters() if parameter.requires_grad)]
    outputs = [tensor for tensor in iter_tensors(model(*args)) if tensor.is_floating_point()]
    if not wanted or not any(output.requires_grad for output in outputs):
        assert not wanted
        return []
    return list(torch.autograd.grad(sum(y.square().sum() for y in outputs), wanted, allow_unused=True))


@EVERY_SCHEME
@pytest.mark.parametrize("name", EVERY_LAYER)
def test_inputs_and_biases_have_the_gradients_of_the_float_layer(name: str, scheme: str):
    case = EVERY_LAYER[name]
    model = case.model()
    module = quantized(model, scheme)
    expected = twin(model, module)
    for call in case.calls():
        actual, wanted = gradients(module, call), gradients(expected, call)
        assert [gradient is None for gradient in actual] == [gradient is None for gradient in wanted]
        present = [(a, w) for a, w in zip(actual, wanted, strict=True) if w is not None]
        assert_same([a for a, _ in present], [w for _, w in present]) if present else None


@pytest.mark.parametrize("kernel", ["auto", "dequantize", "reference"])
@pytest.mark.parametrize("has_bias", [True, False])
@EVERY_SCHEME
def test_a_linear_layer_passes_gradients_on_whatever_kernel_it_has(scheme: str, kernel: str, *, has_bias: bool):
    model = Holder(nn.Linear(20, 7, bias=has_bias))
    module = Quantizer(SCHEMES[scheme], kernel=kernel, validators=()).quantize(model).model
    x = torch.randn(5, 20)
    assert_same(gradients(module, (x,)), gradients(twin(model, module), (x,)))


@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_are_recorded_only_where_there_is_something_to_train(*, frozen: bool):
    model = Holder(nn.Linear(20, 7)).requires_grad_(not frozen)
    module = quantized(model, "int8")
    assert module(torch.randn(5, 20)).requires_grad is not frozen
    assert module(torch.randn(5, 20).requires_grad_()).requires_grad
    with torch.no_grad():
        assert not module(torch.randn(5, 20).requires_grad_()).requires_grad


@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_not_quantized_requires_gradients_as_before(*, frozen: bool):
    model = Holder(nn.LSTM(5, 8)).requires_grad_(not frozen)
    module = quantized(model, "float8")
    for name, parameter in module.named_parameters():
        assert parameter.requires_grad is ("bias" in name and not frozen)


@pytest.mark.parametrize("name", ["linear", "conv2d", "embedding", "bag-sum", "lstm", "attention"])
def test_scales_can_be_trained(name: str):
    case = EVERY_LAYER[name]
    module = quantized(case.model(), "int8")
    scales = {name: tensor for name, tensor in module.named_parameters() if name.endswith("_scale")}
    assert scales
    for scale in scales.values():
        scale.requires_grad_()
    call = case.calls()[0]
    loss = next(iter_tensors(module(*call))).square().sum()
    loss.backward()
    assert all(scale.grad is not None and scale.grad.abs().sum() > 0 for scale in scales.values())
    with torch.no_grad():
        for scale in scales.values():
            scale.sub_(1e-3 * scale.abs().mean() * scale.grad / scale.grad.norm())
        assert next(iter_tensors(module(*call))).square().sum() < loss


def test_a_model_of_quantized_and_float_layers_is_trained_around_the_codes():
    model = nn.Sequential(nn.Linear(20, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 4))
    module = quantized(model, "int4")
    codes = {
        name: tensor.clone() for name, tensor in module.state_dict().items() if "weight" in name and name[0] in "03"
    }
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.05)
    x, target = torch.randn(64, 20), torch.randn(64, 4)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(module(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in codes.items())
