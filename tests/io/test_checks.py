"""Each check finds a planted defect, and nothing in a sound model."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from planted import context, layer, only, original, quantized, weight_only
from small_models import FEATURES, run
from torch import Tensor, nn

from mono_quant.io.checks import LoadRunValidator, SizeValidator, SqnrValidator, WeightRangeValidator

Harm = Callable[[nn.Module], object]
WEIGHT_ONLY = ["int8-weight-only", "int4-weight-only", "float8-weight-only", "float16", "bfloat16"]


def decibels(signal: Tensor, approximation: Tensor) -> float:
    exact, error = signal.detach().double(), signal.detach().double() - approximation.detach().double()
    return float(10 * torch.log10(exact.square().sum() / error.square().sum()))


def batch() -> Tensor:
    return torch.randn(5, FEATURES)


@pytest.mark.parametrize("validator", [SqnrValidator(), SizeValidator(), WeightRangeValidator(), LoadRunValidator()])
def test_nothing_is_wrong_with_a_sound_model(validator: object):
    assert {finding.status for finding in validator.validate(context(quantized(), batch=batch()))} == {"passed"}


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda m: layer(m).weight.view(-1)[-1:].fill_(-128), "0.weight has codes below -127"),
        (lambda m: layer(m).weight_scale[3:4].fill_(math.nan), "0.weight_scale is not finite and positive"),
        (lambda m: layer(m).weight_scale[3:4].fill_(math.inf), "0.weight_scale is not finite and positive"),
        (lambda m: layer(m).weight_scale[3:4].fill_(0), "0.weight_scale is not finite and positive"),
        (lambda m: layer(m).weight_scale.neg_(), "0.weight_scale is not finite and positive"),
        (lambda m: layer(m).input_scale.fill_(math.nan), "0.input_scale is not finite and positive"),
        (lambda m: layer(m).input_scale.fill_(0), "0.input_scale is not finite and positive"),
        (lambda m: layer(m).input_zero_point.fill_(-1), r"0.input_zero_point -1 is outside \[0, 255\]"),
        (lambda m: layer(m).input_zero_point.fill_(256), r"0.input_zero_point 256 is outside \[0, 255\]"),
        (lambda m: layer(m).bias[:1].fill_(math.inf), "0.bias is not finite"),
        (lambda m: m[1].weight.data[:1].fill_(math.nan), "1.weight is not finite"),
        (lambda m: m[2].bias.data.copy_(torch.full((4,), -math.inf)), "2.bias is not finite"),
        (lambda m: m.register_buffer("more", torch.tensor([1e6]).half()), "more is not finite"),
    ],
)
def test_a_number_out_of_range_is_found_by_its_name(harm: Harm, words: str):
    model = quantized()
    with torch.no_grad():
        harm(model)
    finding = only(WeightRangeValidator().validate(context(model)), "weight-range")
    assert finding.status == "failed"
    assert re.search(words, finding.message)


@pytest.mark.parametrize("scheme", WEIGHT_ONLY)
def test_nothing_is_wrong_with_a_sound_model_of_quantized_weights(scheme: str):
    for validator in (SqnrValidator(), SizeValidator(), WeightRangeValidator(), LoadRunValidator()):
        findings = validator.validate(context(weight_only(scheme), batch=batch()))
        assert {finding.status for finding in findings} == {"passed"}


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda m: layer(m).weight_scale[3:4].fill_(0), "0.weight_scale is not finite and positive"),
        (lambda m: layer(m).weight_scale[3:4].fill_(math.nan), "0.weight_scale is not finite and positive"),
        (lambda m: layer(m).weight_zero_point[3:4].fill_(8), r"0.weight_zero_point is outside \[-8, 7\]"),
        (lambda m: layer(m).weight_zero_point[3:4].fill_(-9), r"0.weight_zero_point is outside \[-8, 7\]"),
        (lambda m: layer(m).bias[:1].fill_(math.inf), "0.bias is not finite"),
    ],
)
def test_a_number_out_of_range_is_found_in_groups_of_weights_too(harm: Harm, words: str):
    model = weight_only()
    with torch.no_grad():
        harm(model)
    finding = only(WeightRangeValidator().validate(context(model)), "weight-range")
    assert finding.status == "failed"
    assert re.search(words, finding.message)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.half], ids=str)
def test_a_code_that_is_a_float_and_not_finite_is_found(dtype: torch.dtype):
    model = weight_only("float8-weight-only" if dtype.itemsize == 1 else "float16")
    codes = dict(model.named_parameters())["0.weight"]
    assert codes.dtype == dtype
    codes.data.view(-1)[5:6].copy_(torch.tensor([math.nan]))
    finding = only(WeightRangeValidator().validate(context(model)), "weight-range")
    assert (finding.status, finding.message) == ("failed", "0.weight is not finite")


def test_all_numbers_out_of_range_are_named():
    model = quantized()
    layer(model).weight.view(-1)[0] = -128
    layer(model).input_zero_point.fill_(300)
    message = only(WeightRangeValidator().validate(context(model)), "weight-range").message
    assert "0.weight has codes" in message
    assert "0.input_zero_point 300" in message


@pytest.mark.parametrize("tensor", [torch.eye(2).to_sparse(), torch.empty(0), torch.tensor([True]), torch.ones(1) * 1j])
def test_other_tensors_are_no_matter_of_range(tensor: Tensor):
    model = quantized()
    model.register_buffer("more", tensor)
    assert only(WeightRangeValidator().validate(context(model)), "weight-range").status == "passed"


def test_the_sqnr_of_weights_and_output_is_that_of_the_formula():
    model, x = quantized(), batch()
    findings = SqnrValidator().validate(context(model, batch=x))
    weight = layer(model).weight.double() * layer(model).weight_scale.double()[:, None]
    assert only(findings, "weight-sqnr").layers.keys() == {"0"}
    # the product of code and scale is rounded to float32 once: 2^-24 of it, against steps of 2^-7
    assert only(findings, "weight-sqnr").value == pytest.approx(decibels(original()[0].weight, weight), abs=1e-3)
    assert only(findings, "output-sqnr").value == pytest.approx(decibels(run(original(), x), run(model, x)), abs=1e-9)


@pytest.mark.parametrize("scheme", WEIGHT_ONLY)
def test_the_sqnr_of_quantized_weights_is_that_of_the_weight_as_it_reads(scheme: str):
    model = weight_only(scheme)
    finding = only(SqnrValidator().validate(context(model)), "weight-sqnr")
    assert finding.layers.keys() == {"0"}
    assert finding.value == pytest.approx(decibels(original()[0].weight, layer(model).weight), abs=1e-9)


def test_an_output_sqnr_below_the_minimum_fails():
    value = only(SqnrValidator().validate(context(quantized(), batch=torch.ones(2, FEATURES))), "output-sqnr").value
    for minimum, status in ((value - 1, "passed"), (value + 1, "failed")):
        findings = SqnrValidator(minimum=minimum).validate(context(quantized(), batch=torch.ones(2, FEATURES)))
        assert only(findings, "output-sqnr").status == status


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_output_that_is_not_finite_fails(value: float):
    model = quantized()
    model.register_forward_hook(lambda _, __, y: y.index_fill(1, torch.tensor([0]), value))
    finding = only(SqnrValidator().validate(context(model, batch=batch())), "output-sqnr")
    assert (finding.status, finding.message) == ("failed", "the output is not finite")


def test_an_infinity_where_the_float_model_has_the_other_one_fails():
    checked = context(quantized(), batch=batch())
    for model, value in ((checked.original, math.inf), (checked.quantized, -math.inf)):
        model.register_forward_hook(lambda _, __, y, value=value: y.index_fill(1, torch.tensor([0]), value))
    assert only(SqnrValidator().validate(checked), "output-sqnr").status == "failed"


@pytest.mark.parametrize(
    "answer", [lambda y: y.argmax(1), lambda y: str(y.shape), lambda _: None], ids=["integers", "text", "nothing"]
)
def test_outputs_that_are_no_floats_are_not_compared(answer: Callable[[Tensor], object]):
    checked = context(quantized(), batch=batch())
    for model in (checked.original, checked.quantized):
        model.register_forward_hook(lambda _, __, y: {"answer": answer(y)})
    assert only(SqnrValidator().validate(checked), "output-sqnr").status == "skipped"


@pytest.mark.parametrize("other", [lambda y: y[:, :1], lambda y: (y, y)], ids=["shape", "number"])
def test_outputs_of_another_structure_fail(other: Callable[[Tensor], object]):
    checked = context(quantized(), batch=batch())
    checked.quantized.register_forward_hook(lambda _, __, y: other(y))
    assert only(SqnrValidator().validate(checked), "output-sqnr").status == "failed"


def test_a_model_without_quantized_layers_has_no_weight_sqnr():
    assert only(SqnrValidator().validate(context(original())), "weight-sqnr").status == "skipped"


def test_the_ratio_of_a_model_that_did_not_get_smaller_is_below_one():
    model = quantized()
    model.register_buffer("ballast", torch.zeros(10_000))
    assert only(SizeValidator().validate(context(model)), "compression-ratio").value < 1
