"""What algorithms have made of layers is agreed on too, before anything is quantized."""

from pathlib import Path

import pytest
import torch
from picky import ROWS, Picky, Scaled, quantizer
from torch import nn

from mono_quant import Quantizer
from mono_quant.core.schemes import Int8Static
from mono_quant.errors import ConfigurationError
from mono_quant.modules import SmoothedLinear
from mono_quant.plugin_api import Keep, LayerPlan


@pytest.fixture(autouse=True)
def no_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = lambda _, layers, _kept: {n: "factors" for n in layers if layers[n].layer_type == "SmoothedLinear"}  # noqa: E731
    monkeypatch.setattr(Picky, "refusals", refused)


def test_it_is_an_error_before_anything_is_converted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Quantizer, "_convert", None)
    with pytest.raises(ConfigurationError, match=r"2 of 3 layers as the algorithms have left them.*\n  one: factors"):
        quantizer(algorithms=["smoothquant"]).quantize(Scaled(), ROWS)


def test_layers_that_are_kept_are_those_of_the_model(tmp_path: Path):
    made, model = quantizer(algorithms=["smoothquant"], on_refusal="keep"), Scaled()
    result = made.quantize(model, ROWS)
    assert result.info.skipped_layers == dict.fromkeys(["one", "other"], "picky cannot hold it: factors")
    assert type(result.model.one) is nn.Linear
    assert torch.equal(result.model.one.weight, model.one.weight)
    assert result.plan.rewrites == ()
    result.save(tmp_path / "model.picky")
    assert torch.equal(made.load(tmp_path / "model.picky", Scaled)(ROWS[0]), result.model(ROWS[0]))


def test_a_factor_goes_whatever_else_the_layer_was_given():
    for algorithms in (["smoothquant", "bias-correction"], ["cross-layer-equalization", "smoothquant"]):
        result = quantizer(algorithms=algorithms, on_refusal="keep").quantize(Scaled(), ROWS)
        assert not any("input_factor" in name for name in result.model.state_dict()), algorithms


def test_a_scheme_that_keeps_rewritten_layers_is_an_error_here_too(monkeypatch: pytest.MonkeyPatch):
    plan = Int8Static.plan

    def plain_only(scheme: Int8Static, name: str, module: nn.Module) -> LayerPlan | Keep:
        return Keep("not plain") if isinstance(module, SmoothedLinear) else plan(scheme, name, module)

    monkeypatch.setattr(Int8Static, "plan", plain_only)
    with pytest.raises(ConfigurationError, match="'one' cannot be quantized after its rewrites: not plain"):
        quantizer(algorithms=["smoothquant"]).quantize(Scaled(), ROWS)


def test_nothing_left_is_an_error():
    with pytest.raises(ConfigurationError, match="nothing would be quantized"):
        quantizer(algorithms=["smoothquant"], on_refusal="keep", exclude="head").quantize(Scaled(), ROWS)
