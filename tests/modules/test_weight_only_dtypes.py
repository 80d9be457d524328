"""Half and double precision, before and after quantizing."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_weight_only_attention import ATTENTIONS
from torch import Tensor, nn
from torch.nn import functional
from weight_only_cases import (
    CASES,
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

from mono_quant import Quantizer
from mono_quant.core.tensors import map_tensors, same_bits
from mono_quant.modules import QuantizedModule, to_float

pytestmark = NO_ONEDNN

DTYPES = (torch.float16, torch.bfloat16, torch.float64)
EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=str)
ATTENTION = Case(ATTENTIONS["itself"][0], lambda: [args for args, _ in ATTENTIONS["itself"][1]()])
OTHERS = {name: case for name, case in {**CASES, "attention": ATTENTION}.items() if not name.startswith("linear")}
EVERY_OTHER_CASE = pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)

Function = Callable[[], Any]


def cast(call: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401
    return map_tensors(lambda x: x.to(dtype) if x.is_floating_point() else x, call)


def assert_same_or_both_fail(actual: Function, expected: Function) -> None:
    """Not every layer of torch runs in half precision on every CPU."""
    try:
        wanted = expected()
    except RuntimeError:
        with pytest.raises(RuntimeError):
            actual()
        return
    assert_same(actual(), wanted)


@EVERY_DTYPE
@EVERY_OTHER_CASE
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_a_layer_of_another_dtype_is_quantized_and_runs_in_it(case: Case, scheme: str, dtype: torch.dtype):
    model = case.model().to(dtype)
    module = quantized(model, scheme)
    expected = twin(model, module)
    with torch.no_grad():
        for call in cast(case.calls(), dtype):
            assert_same_or_both_fail(lambda call=call: module(*call), lambda call=call: expected(*call))


@EVERY_DTYPE
@EVERY_OTHER_CASE
def test_a_quantized_layer_is_cast_as_the_float_one_would_be(case: Case, dtype: torch.dtype):
    model = case.model()
    module = quantized(model, "int4")
    expected = twin(model, module).to(dtype)
    with torch.no_grad():
        for call in case.calls():
            module(*call)
        module.to(dtype)
        for call in cast(case.calls(), dtype):
            assert_same_or_both_fail(lambda call=call: module(*call), lambda call=call: expected(*call))


@EVERY_SCHEME
@EVERY_DTYPE
@pytest.mark.parametrize("move", ["to", "type", "inside"])
def test_codes_and_scales_keep_their_dtypes_and_everything_else_does_not(scheme: str, dtype: torch.dtype, move: str):
    module = quantized(Holder(nn.LSTM(5, 8)), scheme)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    if move == "inside":
        nn.Sequential(nn.Sequential(module)).to(dtype)
    else:
        getattr(module, move)(dtype)
    fixed = {f"layer.{name}{suffix}" for name, spec in module.layer.weight_specs.items() for suffix in spec.layout}
    for name, tensor in module.state_dict().items():
        assert same_bits(tensor, before[name]) if name in fixed else tensor.dtype == dtype
    assert {getattr(module.layer, name).dtype for name in module.layer.weight_specs} == {dtype}
    assert {spec.float_dtype for spec in module.layer.weight_specs.values()} == {str(dtype).removeprefix("torch.")}


@EVERY_DTYPE
@EVERY_SCHEME
@pytest.mark.parametrize("first", ["cast", "quantize"])
def test_a_linear_layer_computes_in_float32_and_gives_the_dtype_of_its_input(
    scheme: str, dtype: torch.dtype, first: str
):
    model = Holder(nn.Linear(20, 7))
    if first == "cast":
        model.to(dtype)
    module = quantized(model, scheme).to(dtype)
    x = torch.randn(5, 20, dtype=dtype)
    weight = module.layer.dequantized()
    with torch.no_grad():
        expected = functional.linear(x.float(), weight, model.layer.bias.to(dtype).float())
        assert_same(module(x), expected.to(dtype))
    # Where gradients are recorded, it is torch's own function of the layer's own dtype.
    assert_same(module(x), twin(model, module).to(dtype)(x))


@EVERY_DTYPE
@pytest.mark.parametrize("case", [*OTHERS.values(), CASES["linear"]], ids=[*OTHERS, "linear"])
def test_cast_after_quantizing_it_goes_back_to_float_in_one_dtype(case: Case, dtype: torch.dtype):
    model = case.model()
    module = quantized(model, "int8").to(dtype)
    floated, expected = to_float(module), twin(model, module).to(dtype)
    assert list(floated.state_dict()) == list(model.state_dict())
    assert_same(list(floated.state_dict().values()), list(expected.state_dict().values()))


@EVERY_DTYPE
@pytest.mark.parametrize("name", ["conv2d", "transposed2d", "embedding", "bag-sum", "lstm", "gru-cell", "linear"])
@pytest.mark.parametrize("first", ["cast", "quantize"])
@pytest.mark.parametrize("skeleton", ["plain", "cast"])
def test_it_is_saved_and_loaded_whatever_dtype_the_model_given_has(
    name: str, dtype: torch.dtype, first: str, skeleton: str, tmp_path: Path
):
    case = CASES[name]
    model = case.model()
    if first == "cast":
        model.to(dtype)
    result = quantizer("int4").quantize(model)
    result.model.to(dtype)
    result.save(tmp_path / "model.safetensors")
    given = case.model().to(dtype) if skeleton == "cast" else case.model()
    loaded = quantizer("int4").load(tmp_path / "model.safetensors", given)
    assert_same(list(loaded.state_dict().values()), list(result.model.state_dict().values()))
    with torch.no_grad():
        for call in cast(case.calls(), dtype):
            assert_same_or_both_fail(lambda call=call: loaded(*call), lambda call=call: result.model(*call))
    assert_same(list(to_float(loaded).state_dict().values()), list(to_float(result.model).state_dict().values()))


@EVERY_DTYPE
@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-static"])
@pytest.mark.parametrize("make", [lambda: nn.Linear(8, 4), lambda: nn.Conv1d(8, 4, 1)], ids=["linear", "conv"])
def test_int8_layers_that_were_cast_go_back_to_float_in_one_dtype(
    scheme: str, dtype: torch.dtype, make: Callable[[], nn.Module]
):
    model = nn.Sequential(make(), nn.Flatten(), nn.Linear(4, 4))
    data = [torch.randn(3, 8, 1)] if isinstance(model[0], nn.Conv1d) else [torch.randn(3, 8)]
    module = Quantizer(scheme, validators=()).quantize(model, data).model.to(dtype)
    floated = to_float(module)
    assert {tensor.dtype for tensor in floated.state_dict().values()} == {dtype}
    assert floated(data[0].to(dtype)).dtype == dtype


def test_under_autocast_a_linear_layer_gives_what_the_float_one_gives():
    model = Holder(nn.Linear(20, 7))
    module = quantized(model, "int4")
    expected = twin(model, module)
    x = torch.randn(5, 20)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(module(x), expected(x))
        assert module(x).dtype == torch.bfloat16
    with torch.no_grad():
        assert_same(module(x), expected(x))


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
@EVERY_SCHEME
def test_quantizing_and_running_do_not_depend_on_the_default_dtype(scheme: str, default: torch.dtype):
    model = Holder(nn.Sequential(nn.Linear(20, 7), nn.Linear(7, 20)))
    x = torch.randn(5, 20)
    expected = quantized(copy.deepcopy(model), scheme)
    torch.set_default_dtype(default)
    try:
        module = Quantizer(SCHEMES[scheme], kernel="dequantize", validators=()).quantize(model).model
        with torch.no_grad():
            y = module(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same(list(module.state_dict().values()), list(expected.state_dict().values()))
    with torch.no_grad():
        assert_same(y, expected(x))


def test_every_parameter_of_a_layer_keeps_its_own_dtype():
    cell = nn.GRUCell(5, 8)
    cell.weight_hh = nn.Parameter(cell.weight_hh.detach().double())
    module = quantized(Holder(cell), "int8")
    assert (module.layer.weight_ih.dtype, module.layer.weight_hh.dtype) == (torch.float32, torch.float64)
    floated = to_float(module)
    assert isinstance(module.layer, QuantizedModule)
    assert {name: tensor.dtype for name, tensor in floated.state_dict().items()} == {
        f"layer.{name}": tensor.dtype for name, tensor in cell.state_dict().items()
    }
    assert isinstance(floated.layer.weight_hh, Tensor)
