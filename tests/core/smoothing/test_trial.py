"""A factor is tried on rows that it was not found from."""

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.core.granularity import Granularity, PerChannel, PerTensor, PerToken
from mono_quant.core.qtypes import INT8, UINT8
from mono_quant.core.smoothing.reader import Reader
from mono_quant.core.smoothing.trial import error
from mono_quant.core.smoothing.tried_channels import TriedChannels
from mono_quant.core.tensor_spec import TensorSpec, WeightSpec
from mono_quant.core.weights import quantize_weight


def reader(
    batches: list[Tensor], weight: Tensor, granularity: Granularity, *, is_dynamic: bool
) -> Reader[TriedChannels]:
    inputs = TriedChannels(nn.Linear(weight.shape[1], weight.shape[0]))
    for x in batches:
        inputs(x)
    spec = WeightSpec(dtype=INT8, symmetric=True, granularity=PerChannel(0), shape=weight.shape, float_dtype="float32")
    of_input = TensorSpec(dtype=UINT8, symmetric=False, granularity=granularity, is_dynamic=is_dynamic)
    return Reader(weight, spec, of_input, inputs)


def rounded(x: Tensor, low: float, high: float) -> Tensor:
    """To 256 codes between two ends and zero, in float64."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255
    zero_point = round(-low / step)
    return ((x / step).round() + zero_point).clamp(0, 255).sub(zero_point) * step


@pytest.mark.parametrize(
    ("granularity", "is_dynamic"), [(PerTensor(), False), (PerTensor(), True), (PerToken(), True)], ids=str
)
def test_the_error_is_that_of_both_roundings_on_the_rows_held_back(granularity: Granularity, *, is_dynamic: bool):
    torch.manual_seed(0)
    batches = [torch.randn(20, 6), torch.randn(20, 6) * 2]  # the second, held back, goes beyond the first
    weight, divisor = torch.randn(4, 6), torch.rand(6, dtype=torch.float64) + 0.5
    x, w = batches[1].double() / divisor, weight.double() * divisor
    if isinstance(granularity, PerToken):
        x_rounded = torch.stack([rounded(row, float(row.min()), float(row.max())) for row in x])
    else:
        known = torch.cat(batches) if is_dynamic else batches[0]
        x_rounded = rounded(x, float((known / divisor).min()), float((known / divisor).max()))
    codes, steps = quantize_weight(w)
    exact = x @ w.T
    expected = (x_rounded @ (codes * steps[:, None].double()).T - exact).square().sum() / exact.square().sum()
    found = error(reader(batches, weight, granularity, is_dynamic=is_dynamic), divisor)
    assert found == pytest.approx(float(expected), rel=0.02)  # a number on a tie may go either way


def test_outputs_that_are_all_zero_cost_nothing():
    batches = [torch.ones(3, 6), torch.ones(3, 6)]
    one = reader(batches, torch.zeros(4, 6), PerTensor(), is_dynamic=False)
    assert error(one, torch.ones(6, dtype=torch.float64)) == 0


def test_where_all_that_was_held_back_is_zero_there_is_no_trial():
    torch.manual_seed(0)
    x = torch.randn(40, 16)
    x[:, 3] *= 60
    net, data = nn.Sequential(nn.Linear(16, 8)).eval(), [x, torch.zeros(4, 16), x, x]
    smoothed = Quantizer(algorithms=["smoothquant"], validators=(), show_progress=False).quantize(net, data)
    assert smoothed.plan.rewrites


class Repeats(nn.Module):
    """One layer that runs four times in each batch, on inputs the second of which have an outlier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.step = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        outlier = torch.ones(16)
        outlier[5] = 30.0
        return self.step(x) + self.step(x * outlier) + self.step(-x) + self.step(x / 2)


def test_of_a_layer_that_runs_several_times_no_use_is_always_held_back():
    data = [torch.randn(8, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    smoothed = Quantizer(algorithms=["smoothquant"], validators=(), show_progress=False).quantize(
        Repeats().eval(), data
    )
    assert smoothed.plan.rewrites


class Rare(nn.Module):
    """Features most of which are seldom on: in few data most have not been seen at their largest."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def rare(rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    is_on = torch.rand(rows, 512, generator=generator) < 0.03
    return torch.rand(rows, 512, generator=generator) * torch.where(is_on, 10.0, 0.1)


def test_features_that_few_data_do_not_show_are_not_let_reach_the_end_of_the_range():
    data, net = [rare(5, seed) for seed in range(4)], Rare().eval()
    smoothed = Quantizer(algorithms=["smoothquant"], validators=(), show_progress=False).quantize(net, data)
    assert not smoothed.plan.rewrites
