"""Quantized ``nn.Linear``."""

import pytest
import torch
from fake_quantization import assert_right, quantized, random_input
from torch import nn

from mono_quant.core.weights import is_pair_safe

KERNEL = pytest.mark.parametrize("kernel", ["reference", "fbgemm", "onednn", "auto"])
DTYPES = pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float64], ids=str)


def linear(inputs: int = 37, outputs: int = 11, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias)


@KERNEL
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 64])
def test_it_gives_what_fake_quantization_in_float64_gives(kernel: str, rows: int, *, bias: bool):
    layer = linear(bias=bias)
    module = quantized(layer, kernel=kernel)
    assert_right(module, layer, random_input(module, rows, 37))


def test_its_weights_are_those_of_the_float_layer_to_half_a_step():
    layer = linear()
    module = quantized(layer)
    error = (module.dequantized() - layer.weight.detach()).abs()
    assert bool((error <= module.weight_scale[:, None] * 0.500001).all())
    assert is_pair_safe(module.weight)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 1, 3), (1, 1, 1, 1)])
def test_inputs_may_have_any_number_of_axes(shape: tuple[int, ...]):
    layer = linear()
    module = quantized(layer)
    assert_right(module, layer, random_input(module, *shape, 37))


@KERNEL
def test_the_strides_of_the_input_do_not_matter(kernel: str):
    layer = linear()
    module = quantized(layer, kernel=kernel)
    x = random_input(module, 37, 6, 2)
    assert_right(module, layer, x.permute(2, 1, 0))
    assert_right(module, layer, x[:, 1:3, 0].t())
    assert_right(module, layer, x[:, :1, 0].t().expand(5, 37))


@KERNEL
def test_a_layer_with_a_transposed_weight_is_right(kernel: str):
    layer = linear()
    layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())
    module = quantized(layer, kernel=kernel)
    assert_right(module, layer, random_input(module, 3, 37))


@pytest.mark.parametrize("shape", [(0, 37), (2, 0, 37), (0, 5, 37)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.half])
def test_an_empty_batch_gives_an_empty_result(shape: tuple[int, ...], dtype: torch.dtype):
    y = quantized(linear())(torch.empty(shape, dtype=dtype))
    assert y.shape == (*shape[:-1], 11)
    assert y.dtype == dtype


@KERNEL
@DTYPES
def test_inputs_of_other_float_types_give_outputs_of_their_type(kernel: str, dtype: torch.dtype):
    layer = linear()
    module = quantized(layer, kernel=kernel)
    assert_right(module, layer, random_input(module, 7, 37).to(dtype))


@DTYPES
def test_layers_of_other_float_types_are_quantized(dtype: torch.dtype):
    layer = linear().to(dtype)
    module = quantized(layer)
    assert module.bias is not None
    assert module.bias.dtype == dtype
    assert_right(module, layer, random_input(module, 7, 37).to(dtype))


@KERNEL
@pytest.mark.parametrize("sign", [1, -1])
def test_weights_of_one_sign_and_extreme_inputs_are_exact(kernel: str, sign: int):
    layer = linear(513, 3)
    nn.init.constant_(layer.weight, sign * 0.3)
    module = quantized(layer, kernel=kernel)
    assert module.weight.unique().tolist() == [sign * 64]
    for value in (-1e30, -2.1, 3.3, 1e30):
        assert_right(module, layer, torch.full((3, 513), value))


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e30])
def test_tiny_and_huge_weights_are_quantized(scale: float):
    layer = linear(bias=False)
    layer.weight.data.mul_(scale)
    module = quantized(layer)
    assert bool(torch.isfinite(module.weight_scale).all())
    x = random_input(module, 5, 37)
    y = module(x).double()
    if scale == 1e-38:  # beneath what float32 holds without loss
        assert float(y.abs().max()) < 1e-37
    else:
        assert_right(module, layer, x)


def test_a_row_of_zeros_gives_the_bias():
    layer = linear()
    layer.weight.data[3] = 0
    module = quantized(layer)
    assert module.bias is not None
    assert torch.equal(module(random_input(module, 4, 37))[:, 3], module.bias[3].expand(4))


def test_an_input_that_was_always_zero_is_quantized():
    module = quantized(linear(), low=0.0, high=0.0)
    assert torch.equal(module(torch.zeros(2, 37)), module.bias.expand(2, 11))


@pytest.mark.parametrize("shape", [(4, 74), (4, 36), (38,), (0, 36)])
def test_an_input_with_other_features_is_refused(shape: tuple[int, ...]):
    with pytest.raises(RuntimeError, match="shape"):
        quantized(linear())(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.long, torch.uint8, torch.bool])
def test_an_input_of_integers_is_refused_as_by_the_float_layer(dtype: torch.dtype):
    with pytest.raises(RuntimeError):
        linear()(torch.ones(2, 37, dtype=dtype))
    with pytest.raises(TypeError, match=f"float input, got {dtype}.*quantize with calibration_data"):
        quantized(linear())(torch.ones(2, 37, dtype=dtype))


def test_it_shows_itself_like_the_float_layer_and_how_it_is_stored():
    assert repr(quantized(linear())) == "Quantized" + repr(linear())[:-1] + ", int8 symmetric per-channel(0))"
