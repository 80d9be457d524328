"""Quantized layers, and what they must give: the float layer itself, in float64, on fake-quantized numbers."""

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from mono_quant.core.observers import MinMaxObserver
from mono_quant.core.schemes import Int8Static
from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api.plan import LayerPlan

KERNELS = (("reference", ReferenceKernel()), ("fbgemm", FbgemmKernel()), ("onednn", OnednnKernel()))
LOW, HIGH = -2.1, 3.3

ROUNDING = 2**-24
"""Relative error of one float32 operation."""


def quantized(layer: nn.Module, *, kernel: str = "auto", low: float = LOW, high: float = HIGH) -> QuantizedModule:
    """What the scheme makes of a layer whose inputs were seen to lie in ``[low, high]``."""
    scheme = Int8Static()
    plan = scheme.plan("layer", layer)
    assert isinstance(plan, LayerPlan), plan
    observer = MinMaxObserver("uint8")
    observer.forward(torch.tensor([low, high]))
    module = scheme.convert(layer, plan, {"input": observer})
    module.use_kernels(KERNELS, kernel)
    return module


def random_input(module: QuantizedModule, *shape: int, seed: int = 0) -> Tensor:
    """Float32 values in the range and somewhat beyond it, none near the middle between two codes.

    There the code depends on how a division is rounded.
    """
    generator = torch.Generator().manual_seed(seed)
    zero_point = int(cast("Tensor", module.input_zero_point))
    codes = torch.randint(-20 - zero_point, 276 - zero_point, shape, generator=generator)
    beside = torch.rand(shape, generator=generator) * 0.8 - 0.4
    return ((codes + beside) * cast("Tensor", module.input_scale)).float()


def fake_quantized(module: QuantizedModule, x: Tensor) -> Tensor:
    scale, zero_point = module.input_scale.double(), module.input_zero_point.double()
    codes = (x.double() / scale).round().add(zero_point).clamp(0, 255)
    return (codes - zero_point) * scale


def assert_right(
    module: QuantizedModule,
    layer: nn.Module,
    x: Tensor,
    run: Callable[[Tensor], Tensor] | None = None,
    *,
    is_traced: bool = False,
) -> None:
    """That the module gives what it must, to the roundings of float32 and of the input's own dtype.

    A kernel rounds four times: the sum to float32, by the two scales, by the bias. Traced, it is a float32 sum of
    products of rounded numbers: ``n + 3`` roundings for ``n`` terms (Higham 2002, section 3.1).
    """
    y = (module if run is None else run)(x)
    float64 = _float64(module, layer)
    right = float64(fake_quantized(module, x))
    assert y.shape == right.shape
    assert y.dtype == x.dtype
    bias = 0 if float64.bias is None else float64.bias.abs().reshape(-1, *[1] * (module.weight.ndim - 2))
    bound = 4 * ROUNDING * (right.abs() + bias)  # the product is not larger than |right| + |bias|
    if is_traced:
        float64.weight.abs_()
        float64.bias = None
        bound = (module.weight[0].numel() + 3) * ROUNDING * (float64(fake_quantized(module, x).abs()) + bias)
    if x.dtype in {torch.half, torch.bfloat16}:
        bound += torch.finfo(x.dtype).eps / 2 * right.abs() + torch.finfo(x.dtype).smallest_normal
    assert bool(((y.double() - right).abs() <= 1.01 * bound).all())


def _float64(module: QuantizedModule, layer: nn.Module) -> nn.Module:
    layer = copy.deepcopy(layer).double().requires_grad_(requires_grad=False)
    per_row = module.weight_scale.double().reshape(-1, *[1] * (module.weight.ndim - 1))
    layer.weight.copy_(module.weight.double() * per_row)
    return layer
