"""Quantized ``nn.Linear`` whose inputs bring their own scale."""

import math
from typing import get_args

import pytest
import torch
from fake_quantization import KERNELS, assert_right
from torch import Tensor, nn

from mono_quant.core.schemes import Int8Dynamic
from mono_quant.core.schemes.int8 import Activations
from mono_quant.modules import QuantizedLinear, QuantizedModule
from mono_quant.plugin_api.plan import LayerPlan, TensorSpec

KERNEL = pytest.mark.parametrize("kernel", ["reference", "fbgemm", "onednn", "auto"])


def pair(
    kernel: str = "auto", *, activations: Activations = "per-tensor", bias: bool = True
) -> tuple[nn.Linear, QuantizedModule]:
    torch.manual_seed(0)
    layer, scheme = nn.Linear(37, 11, bias=bias), Int8Dynamic(activations=activations)
    plan = scheme.plan("layer", layer)
    assert isinstance(plan, LayerPlan)
    module = scheme.convert(layer, plan, {})
    module.use_kernels(KERNELS, kernel)
    return layer, module


def ranging(low: float, high: float, *shape: int) -> Tensor:
    """Values of this range, none near the middle between two of its codes."""
    x = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)) / 255 * (high - low) + low
    x.view(-1)[0], x.view(-1)[1] = low, high
    return x


def static_like(layer: nn.Linear, module: QuantizedModule, scale: Tensor, zero_point: Tensor) -> QuantizedModule:
    """The static layer with the same codes and a scale for its input."""
    spec = TensorSpec(dtype="uint8", symmetric=False, granularity="per-tensor")
    return QuantizedLinear(layer, module.weight_specs["weight"], module.stored("weight"), spec, (scale, zero_point))


def with_its_own_range(layer: nn.Linear, module: QuantizedModule, x: Tensor) -> None:
    """That the result is that of a static layer whose range is that of this input, and contains zero."""
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = torch.tensor(max((high - low) / 255, torch.finfo(torch.float32).tiny), dtype=torch.float32)
    zero_point = (-low / scale.double()).round().clamp(0, 255).int()
    static = static_like(layer, module, scale, zero_point)
    assert_right(static, layer, x, run=module)


@KERNEL
@pytest.mark.parametrize(("low", "high"), [(-85, 170), (0, 255), (-255, 0), (-1e-6, 2e-6), (-1e15, 3e15)])
@pytest.mark.parametrize("rows", [1, 5])
def test_each_input_has_its_own_range(kernel: str, low: float, high: float, rows: int):
    layer, module = pair(kernel)
    with_its_own_range(layer, module, ranging(low, high, rows, 37))
    with_its_own_range(layer, module, ranging(3 * low, 3 * high, rows, 37))


@KERNEL
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e-42])
def test_constant_inputs_are_right(kernel: str, value: float):
    layer, module = pair(kernel)
    with_its_own_range(layer, module, torch.full((3, 37), value))


@KERNEL
def test_an_empty_batch_gives_an_empty_result(kernel: str):
    assert pair(kernel)[1](torch.empty(0, 37)).shape == (0, 11)


@pytest.mark.parametrize("activations", get_args(Activations))
def test_an_empty_batch_of_any_shape_gives_an_empty_result(activations: Activations):
    _, module = pair(activations=activations)
    assert module(torch.empty(2, 0, 37)).shape == (2, 0, 11)


def test_compiled_it_takes_the_range_of_each_input_too():
    layer, module = pair()
    module.compile(backend="eager", fullgraph=True)
    for top in (170, 17):
        with_its_own_range(layer, module, ranging(-top / 2, top, 4, 37))


def with_a_range_a_token(layer: nn.Linear, module: QuantizedModule, x: Tensor) -> None:
    """That each token gives what a static layer gives whose range is that of this token, as wide on both sides."""
    y = module(x)
    for token, result in zip(x.reshape(-1, 37), y.reshape(-1, 11), strict=True):
        largest = max(float(token.abs().max()), 127 * torch.finfo(torch.float32).tiny)
        scale = torch.tensor(largest, dtype=torch.float64).div(127).float()
        static = static_like(layer, module, scale, torch.tensor(128, dtype=torch.int32))
        assert_right(static, layer, token[None], run=lambda _, result=result: result[None])


def tokens(*shape: int) -> Tensor:
    """Tokens of very different sizes, none of whose values is near the middle between two of its codes."""
    codes = torch.randint(-127, 128, (*shape, 37), generator=torch.Generator().manual_seed(0)).float()
    codes[..., 0] = 127
    sizes = torch.logspace(-6, 6, math.prod(shape)).reshape(*shape, 1)
    return codes * sizes


@KERNEL
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (9,), (3, 5), (2, 1, 4)])
def test_each_token_may_have_its_own_range(kernel: str, shape: tuple[int, ...], *, bias: bool):
    layer, module = pair(kernel, activations="per-token", bias=bias)
    with_a_range_a_token(layer, module, tokens(*shape))
    with_a_range_a_token(layer, module, -3 * tokens(*shape))


@KERNEL
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e-42])
def test_constant_tokens_are_right(kernel: str, value: float):
    layer, module = pair(kernel, activations="per-token")
    x = tokens(3)
    x[1] = value
    with_a_range_a_token(layer, module, x)


def test_an_outlier_in_one_token_leaves_the_others_as_they_were():
    _, module = pair("reference", activations="per-token")
    x = tokens(4)
    with_outlier = x.clone()
    with_outlier[2, 5] = 1e20
    others = [0, 1, 3]
    assert torch.equal(module(with_outlier)[others], module(x)[others])


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_compiled_it_takes_the_range_of_each_token_too(*, bias: bool, dynamic: bool):
    torch.compiler.reset()  # its limit is one of the code, not of the layer
    layer, module = pair(activations="per-token", bias=bias)
    module.compile(backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for shape in ((4,), (1,), (9,), (3, 5), (2, 1, 4)):
        with_a_range_a_token(layer, module, tokens(*shape))
