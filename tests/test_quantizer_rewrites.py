"""Rewrites that change layers which stay in float: applied when converting, validating and loading alike."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from mono_quant import Quantizer, demo, hookimpl, validate_quantization
from mono_quant.plugin_api import Algorithm, AlgorithmSpec, DataFlow, Plan, Rewrite


class Balance(Algorithm):
    """Halves what a LayerNorm gives and doubles the weight of the Linear after it: the same function."""

    def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> Sequence[Rewrite]:
        del modules, plan, flow
        return [Rewrite(algorithm="balance", layers=("0", "1"), removed={})]

    def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        norm, linear = (copy.deepcopy(modules[name]) for name in rewrite.layers)
        with torch.no_grad():
            norm.weight /= 2
            norm.bias /= 2
            linear.weight *= 2
        return {"0": norm, "1": linear}


class Plugin:
    @hookimpl
    def mono_quant_algorithms(self) -> list[AlgorithmSpec]:
        return [AlgorithmSpec(name="balance", summary="planted", factory=Balance)]


def test_a_rewrite_of_a_layer_that_stays_in_float_is_carried_out_and_loaded(tmp_path: Path):
    model = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 8)).eval()
    data = [torch.randn(32, 16) for _ in range(4)]
    quantizer = Quantizer(algorithms=["balance"], plugins=[Plugin()])
    result = quantizer.quantize(model, data)
    assert torch.equal(result.model[0].weight, model[0].weight / 2)
    assert result.info.sqnr_db > 30
    result.save(tmp_path / "m.safetensors")
    loaded = quantizer.load(tmp_path / "m.safetensors", model)
    assert torch.equal(loaded(data[0]), result.model(data[0]))


def test_two_rewrites_of_one_chain_add_up():
    model = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 8)).eval()
    quantizer = Quantizer(algorithms=["balance", "balance"], plugins=[Plugin()])
    result = quantizer.quantize(model, [torch.randn(32, 16) for _ in range(4)])
    assert torch.equal(result.model[0].weight, model[0].weight / 4)


def test_folded_layers_are_not_compared_with_what_they_were_before():
    model = demo.demo_model()
    quantized = Quantizer().quantize(model, demo.calibration_data()).model
    layers = validate_quantization(model, quantized).layer_sqnr_db
    assert set(layers) == {"head.1", "head.3"}
    assert min(layers.values()) > 30
