"""The observer as an installed plugin of mono_quant."""

import math

import pytest
import torch
from mono_quant import Quantizer
from mono_quant.errors import CalibrationError, ConfigurationError
from torch import nn


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))


def test_a_quantizer_uses_it_by_its_name(model: nn.Module):
    batches = [torch.linspace(-1, 1, 256).reshape(32, 8) * 2**number for number in range(3)]
    result = Quantizer(observer={"name": "spread", "k": 1}, on_failure="warn").quantize(model, batches)
    deviation = float(torch.cat(batches).std(correction=0))
    assert float(result.model.get_submodule("0").input_scale) == pytest.approx(2 * deviation / 255)
    assert result.info.versions["mono-quant-spread"] == "1.0.0"


def test_a_quantizer_refuses_an_option_that_it_has_not(model: nn.Module):
    with pytest.raises(ConfigurationError, match="'spread' has no option 'share'; its options are: k"):
        Quantizer(observer={"name": "spread", "share": 0.9}).quantize(model, [torch.randn(2, 8)])


def test_a_quantizer_refuses_a_k_that_is_none(model: nn.Module):
    with pytest.raises(ConfigurationError, match="k must be above 0"):
        Quantizer(observer={"name": "spread", "k": 0}).quantize(model, [torch.randn(2, 8)])


def test_a_quantizer_refuses_data_that_is_not_finite(model: nn.Module):
    with pytest.raises(CalibrationError, match="input of layer '0' is not finite in calibration batch 1"):
        Quantizer(observer="spread").quantize(model, [torch.randn(2, 8), torch.full((2, 8), math.nan)])
