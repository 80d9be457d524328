"""Quantized ``nn.Linear`` whose inputs bring their own scale."""

import pytest
import torch
from fake_quantization import KERNELS, assert_right
from torch import Tensor, nn

from mono_quant.core.schemes import Int8Dynamic
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api.plan import LayerPlan

KERNEL = pytest.mark.parametrize("kernel", ["reference", "fbgemm", "onednn", "auto"])


def pair(kernel: str = "auto") -> tuple[nn.Linear, QuantizedModule]:
    torch.manual_seed(0)
    layer, scheme = nn.Linear(37, 11), Int8Dynamic()
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


def with_its_own_range(layer: nn.Linear, module: QuantizedModule, x: Tensor, *, is_traced: bool = False) -> None:
    """That the result is that of a static layer whose range is that of this input, and contains zero."""
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = torch.tensor(max((high - low) / 255, torch.finfo(torch.float32).tiny), dtype=torch.float32)
    zero_point = (-low / scale.double()).round().clamp(0, 255).int()
    static = type(module)(module.weight, module.weight_scale, scale, zero_point, module.bias)
    assert_right(static, layer, x, run=module, is_traced=is_traced)


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


def test_compiled_it_takes_the_range_of_each_input_too():
    layer, module = pair()
    module.compile(backend="eager", fullgraph=True)
    for top in (170, 17):
        with_its_own_range(layer, module, ranging(-top / 2, top, 4, 37), is_traced=True)
