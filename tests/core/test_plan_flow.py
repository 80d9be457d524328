"""What of a plan is watched, and which of its layers stay in float for what was seen."""

import pytest
import torch
from torch import Tensor, nn

from mono_quant.core.dataflow import DataFlowRecorder
from mono_quant.core.plan import make_plan
from mono_quant.core.plan_flow import read_outside, worth_watching
from mono_quant.core.schemes import Int8Static, Int8WeightOnly
from mono_quant.plugin_api import Plan, Scheme


class Reading(nn.Module):
    """Reads the weight of one layer and the precision of another, beside calling them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.activation = nn.ReLU()
        self.norm = nn.Sequential(nn.LayerNorm(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.third(self.second(self.first(x.to(self.second.weight.dtype))))
        return self.norm(self.activation(y) + self.first.weight.square().sum())


def plan_and_flow(scheme: Scheme) -> tuple[Plan, DataFlowRecorder]:
    model = Reading()
    plan = make_plan(model, scheme.plan)
    recorder = DataFlowRecorder(model, worth_watching(dict(model.named_modules()), plan))
    with torch.no_grad(), recorder.batch():
        model(torch.randn(2, 4))
    return plan, recorder


def test_leaves_with_tensors_and_all_that_is_replaced_are_watched():
    model = nn.ModuleDict({"layer": nn.Linear(2, 2), "relu": nn.ReLU(), "attention": nn.MultiheadAttention(2, 1)})
    plan = make_plan(model, Int8WeightOnly().plan)
    assert "attention" in plan.layers
    watched = worth_watching(dict(model.named_modules()), plan)
    assert watched == ["layer", "attention", "attention.out_proj"]


def test_layers_whose_tensors_are_read_outside_stay_in_float_with_the_reason():
    plan, recorder = plan_and_flow(Int8Static())
    reasons = {name: keep.reason for name, keep in read_outside(recorder, plan).items()}
    assert set(reasons) == {"first", "second"}
    assert reasons["first"] == "its weight is also read by square, outside the layer"
    assert reasons["second"].startswith("dtype of its weight is read outside the layer, as in x.to(layer.weight.dtype)")


@pytest.mark.parametrize("kept", [["first"], ["first", "second"]])
def test_a_layer_that_is_not_in_the_plan_needs_no_reason(kept: list[str]):
    plan, recorder = plan_and_flow(Int8Static())
    reasons = read_outside(recorder, plan)
    smaller = plan.decide({name: reasons[name] for name in kept})
    assert set(read_outside(recorder, smaller)) == {"first", "second"} - set(kept)


def test_a_layer_whose_weight_still_reads_as_float_is_quantized_all_the_same():
    plan, recorder = plan_and_flow(Int8WeightOnly())
    assert {"first", "second"} <= set(plan.layers)
    assert read_outside(recorder, plan) == {}
