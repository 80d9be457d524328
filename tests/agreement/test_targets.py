"""The search for a target chooses what the format holds."""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
import torch
from picky import ROWS, Picky, Scaled, quantizer
from torch import nn

from mono_quant import MaxSize, MinSQNR, QuantizationResult, Quantizer
from mono_quant.errors import TargetError
from mono_quant.plugin_api import Algorithm, AlgorithmSpec, DataFlow, LayerPlan, Plan, Rewrite, hookimpl


def test_a_layer_that_a_target_keeps_has_no_factor():
    model = Scaled()
    result = Quantizer(
        algorithms=["smoothquant"], target=MinSQNR(45, then=()), show_progress=False, on_failure="ignore"
    ).quantize(model, ROWS)
    assert "one" in result.plan.kept
    assert type(result.model.one) is nn.Linear
    assert torch.equal(result.model.one.weight, model.one.weight)
    assert all("one" not in rewrite.layers for rewrite in result.plan.rewrites)


def test_a_target_leaves_rewrites_of_other_layers_alone(tmp_path: Path):
    """One of a layer that was never to be quantized is part of the model, and the file is loaded with it."""

    class GiveBias(Algorithm):
        def find(self, modules: Mapping[str, nn.Module], plan: Plan, flow: DataFlow) -> list[Rewrite]:
            del modules, plan, flow
            return [Rewrite(algorithm="give-bias", layers=("norm",), removed={})]

        def apply(self, rewrite: Rewrite, modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
            del rewrite
            given = nn.LayerNorm(8)
            given.weight = modules["norm"].weight
            return {"norm": given}

    class Gives:
        @hookimpl
        def mono_quant_algorithms(self) -> list[AlgorithmSpec]:
            return [AlgorithmSpec(name="give-bias", summary="for a test", factory=GiveBias)]

    def net() -> nn.Sequential:
        torch.manual_seed(0)
        layers = {"a": nn.Linear(8, 8), "norm": nn.LayerNorm(8, bias=False), "b": nn.Linear(8, 4)}
        return nn.Sequential(OrderedDict(layers))

    made = Quantizer(algorithms=["give-bias"], plugins=[Gives()], target=MinSQNR(5), show_progress=False)
    result = made.quantize(net(), ROWS)
    assert [rewrite.layers for rewrite in result.plan.rewrites] == [("norm",)]
    result.save(tmp_path / "model.safetensors")
    assert torch.equal(made.load(tmp_path / "model.safetensors", net)(ROWS[0]), result.model(ROWS[0]))


def test_no_layer_is_given_a_scheme_that_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        Picky, "refusals", lambda _, layers, _kept: {n: "floats" for n in layers if layers[n].input is None}
    )
    asked = MinSQNR(45, then=["int8-weight-only"])
    free = Quantizer(target=asked, show_progress=False, on_failure="ignore").quantize(Scaled(), ROWS)
    assert "int8-weight-only" in free.found.changed.values()
    result = quantizer(target=asked).quantize(Scaled(), ROWS)
    assert result.found.is_met
    assert set(result.found.changed.values()) == {"float"}


def test_layers_that_must_be_alike_are_given_one_way(monkeypatch: pytest.MonkeyPatch):
    def unlike(_: Picky, layers: Mapping[str, LayerPlan], _kept: Collection[str]) -> dict[str, str]:
        schemes = {layers[name].scheme for name in ("one", "other") if name in layers}
        return {name: "its twin is another" for name in ("one", "other") if len(schemes) > 1}

    def sized(nbytes: int, **options: object) -> QuantizationResult:
        target = MaxSize(nbytes, then=[{"name": "int4-weight-only", "group_size": 8}])
        made = quantizer(scheme="int8-weight-only", exclude=["head"], target=target, **options)
        return made.quantize(Scaled(), ROWS)

    monkeypatch.setattr(Picky, "refusals", unlike)
    untargeted = quantizer(scheme="int8-weight-only", exclude=["head"]).quantize(Scaled(), ROWS)
    most = sum(x.nbytes for x in untargeted.model.state_dict().values())
    chosen = set(sized(most - 1, format=None).found.changed)
    assert len(chosen & {"one", "other"}) == 1  # any format takes one of them alone
    result = sized(most - 1)
    assert result.found.is_met
    assert {result.plan.layers[name].scheme for name in ("one", "other")} == {"int4-weight-only"}
    assert set(result.plan.kept) == {"head"}


def test_what_was_asked_for_is_a_way_too(monkeypatch: pytest.MonkeyPatch):
    """Where the format takes no other one for the pair, the layer that needs less goes back to it."""

    def only_int8(_: Picky, layers: Mapping[str, LayerPlan], _kept: Collection[str]) -> dict[str, str]:
        pair = [layers[name].scheme for name in ("one", "other") if name in layers]
        return {name: "the pair is int8" for name in ("one", "other") if "int4-weight-only" in pair}

    monkeypatch.setattr(Picky, "refusals", lambda *_: {})
    int4 = [{"name": "int4-weight-only", "group_size": 8}]
    asked = {"scheme": "int8-weight-only", "exclude": ["head"]}
    untargeted = quantizer(**asked).quantize(Scaled(), ROWS)
    most = sum(x.nbytes for x in untargeted.model.state_dict().values())
    monkeypatch.setattr(Picky, "refusals", only_int8)
    with pytest.raises(TargetError) as raised:
        quantizer(target=MaxSize(most - 1, then=int4), **asked).quantize(Scaled(), ROWS)
    assert set(raised.value.best.plan.layers) == {"one", "other"}  # nothing went to float


def test_layers_that_are_refused_beside_each_other_go_to_float(monkeypatch: pytest.MonkeyPatch):
    def torn(_: Picky, layers: Mapping[str, LayerPlan], kept: Collection[str]) -> dict[str, str]:
        return {name: "its twin is float" for name in {"one", "other"} & set(layers) if {"one", "other"} & set(kept)}

    monkeypatch.setattr(Picky, "refusals", torn)
    model = Scaled()
    with torch.no_grad():
        model.other.weight *= 1e-3  # so that it alone need not be float
    asked = MinSQNR(30, then=())
    free = Quantizer(target=asked, show_progress=False, on_failure="ignore").quantize(model, ROWS)
    assert set(free.plan.kept) & {"one", "other"} == {"one"}
    result = quantizer(target=asked).quantize(model, ROWS)
    assert {"one", "other"} <= set(result.plan.kept)
    assert result.plan.kept["other"] == "the format cannot hold it: its twin is float"
    assert result.found.is_met
    assert result.plan.layers
