"""Layers that are scaled are the same function, to the rounding of their dtype."""

import pytest
import torch
from torch import nn

from mono_quant.core.smoothing.scaled_layer import with_own_factor


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_layer_with_a_factor_of_its_own_rounds_each_weight_once(dtype: torch.dtype):
    torch.manual_seed(0)
    layer = nn.Linear(64, 48).to(dtype)
    factor = torch.rand(64) * 10 + 0.1
    scaled = with_own_factor(layer, factor)
    effective = scaled.weight.double() * scaled.quantized_input(torch.ones(64, dtype=dtype)).double()
    weight, info = layer.weight.double(), torch.finfo(dtype)
    allowed = info.eps / 2 * (weight.abs() + info.tiny * factor)  # below the smallest normal number steps stay the same
    assert ((effective - weight).abs() <= allowed * (1 + 1e-6)).all()
