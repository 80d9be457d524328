"""Which modules can take a factor."""

import pytest
import torch
from torch import nn

from mono_quant.core.smoothing.scaled_module import may_scale


@pytest.mark.parametrize("module", [nn.LayerNorm(4), nn.BatchNorm1d(4), nn.LayerNorm(4, bias=False)])
def test_one_number_for_each_channel_can_be_scaled(module: nn.Module):
    assert may_scale(module)


@pytest.mark.parametrize(
    "module",
    [nn.Linear(4, 4), nn.LayerNorm((2, 4)), nn.LayerNorm(4, elementwise_affine=False), nn.LazyBatchNorm1d(), nn.ReLU()],
    ids=lambda module: type(module).__name__,
)
def test_other_parameters_cannot(module: nn.Module):
    assert not may_scale(module)


def test_integers_cannot():
    module = nn.LayerNorm(4)
    module.weight = nn.Parameter(torch.ones(4, dtype=torch.int32), requires_grad=False)
    assert not may_scale(module)
