"""Half precision is what a layer gets last before float."""

import pytest
import torch
from torch import Tensor, nn

from mono_quant import MinSQNR, Quantizer
from mono_quant.core.sqnr import sum_sqnr_db


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16)).eval()


def data(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(12, 32, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in range(4)]


def quantizer(db: float) -> Quantizer:
    return Quantizer(target=MinSQNR(db), validators=("sqnr", "size"), show_progress=False)


def test_a_target_beyond_8_bits_leaves_no_layer_in_float():
    model = net()
    result = quantizer(60.0).quantize(model, data())
    assert set(result.found.changed.values()) == {"float16"}
    assert not result.plan.kept.keys() & {"0", "2", "4"}
    with torch.no_grad():
        assert sum_sqnr_db((model(x), result.model(x)) for x in data()) >= 60


def test_a_model_of_one_layer_meets_a_target_that_8_bits_do_not():
    result = quantizer(60.0).quantize(net()[0], data())
    assert result.found.changed == {"": "float16"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_saves_no_bytes_is_not_given(dtype: torch.dtype):
    result = quantizer(45.0).quantize(net().to(dtype), data(dtype))
    assert result.found.is_met
    assert "float16" not in result.found.changed.values()
    assert "float" in result.found.changed.values()


def test_a_layer_whose_weights_are_beyond_it_goes_on_to_float():
    model = net()
    with torch.no_grad():
        model[0].weight[0, 0] = 1e5
    result = quantizer(60.0).quantize(model, data())
    assert result.found.is_met
    assert result.found.changed.get("0") != "float16"


def test_weights_that_8_bits_hold_exactly_meet_any_target():
    torch.manual_seed(0)
    rows = [torch.randn(9, 1) for _ in range(3)]
    result = quantizer(90.0).quantize(nn.Linear(1, 8).eval(), rows)
    assert result.found.is_met
