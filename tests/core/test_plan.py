"""The coverage ledger: every leaf module and every parameter byte, once."""

import re
import warnings
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from module_trees import byte_count, models, own_parameters, paths
from torch import nn

from mono_quant.core.plan import Decide, make_plan, refuse_empty, with_sizes
from mono_quant.core.schemes import Int8Dynamic, Int8Static, Int8WeightOnly
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api import Keep, LayerPlan, Plan, Scheme


def int8_plan(model: nn.Module) -> Plan:
    return make_plan(model, Int8Static().plan)


@given(models())
@settings(max_examples=150)
def test_every_leaf_and_every_owner_of_parameters_is_in_the_ledger_once_with_all_its_names(model: nn.Module):
    names = defaultdict(list)
    wanted = {}
    for path, module in paths(model):
        names[id(module)].append(path)
        if not module._modules or own_parameters(module):
            wanted.setdefault(id(module), path)
    entries = int8_plan(model).entries
    assert sorted(entry.name for entry in entries) == sorted(wanted.values())
    for entry in entries:
        assert sorted([entry.name, *entry.also]) in [sorted(same) for same in names.values()]


@given(models())
@settings(max_examples=150)
def test_every_parameter_byte_is_in_the_ledger_once(model: nn.Module):
    distinct = {key: value for _, module in paths(model) for key, value in own_parameters(module).items()}
    plan = int8_plan(model)
    assert plan.parameter_bytes == sum(entry.parameter_bytes for entry in plan.entries)
    assert plan.parameter_bytes == sum(map(byte_count, distinct.values()))


@given(models())
@settings(max_examples=150)
def test_layers_that_share_a_parameter_are_quantized_together_or_not_at_all(model: nn.Module):
    plan = int8_plan(model)
    owners = defaultdict(set)
    for name, module in model.named_modules():
        for key in own_parameters(module):
            owners[key].add(name)
    for names in owners.values():
        assert names <= set(plan.layers) or not names & set(plan.layers)


@given(models())
@settings(max_examples=50)
def test_every_layer_that_is_kept_says_why(model: nn.Module):
    plan = int8_plan(model)
    assert set(plan.kept) | set(plan.layers) == {entry.name for entry in plan.entries}
    assert all(plan.kept.values())


@given(models())
@settings(max_examples=50)
def test_planning_changes_nothing(model: nn.Module):
    model.train()
    before = {name: (id(value), value._version) for name, value in model.named_parameters(remove_duplicate=False)}
    int8_plan(model)
    after = {name: (id(value), value._version) for name, value in model.named_parameters(remove_duplicate=False)}
    assert before == after
    assert all(module.training for module in model.modules())


@given(models())
@settings(max_examples=50)
def test_the_printed_ledger_has_one_line_an_entry_and_the_sums(model: nn.Module):
    plan = int8_plan(model)
    lines = str(plan).splitlines()
    assert len(lines) == 1 + len(plan.entries) + 1
    assert f"{plan.parameter_bytes:,} bytes" in lines[-1]


def with_attention_by(scheme: Scheme | None, others: Scheme) -> Decide:
    """One scheme for attention itself, None to keep it in float, and one for all other layers."""

    def decide(name: str, module: nn.Module) -> LayerPlan | Keep:
        of = scheme if isinstance(module, nn.MultiheadAttention) else others
        return Keep("not wanted") if of is None else of.plan(name, module)

    return decide


ATTENDING = pytest.mark.parametrize(
    "block",
    [nn.MultiheadAttention(8, 2), nn.TransformerEncoderLayer(8, 2, 16), nn.TransformerDecoderLayer(8, 2, 16)],
    ids=lambda block: type(block).__name__,
)


@ATTENDING
@pytest.mark.parametrize("attention", [None, Int8WeightOnly()], ids=["float", "another-scheme"])
@pytest.mark.parametrize("scheme", [Int8Static(), Int8Dynamic()], ids=["static", "dynamic"])
def test_layers_that_attention_reads_itself_are_kept_with_the_reason(
    block: nn.Module, attention: Scheme | None, scheme: Scheme
):
    model = nn.Sequential(nn.Linear(8, 8), nn.ModuleDict({"block": block}))
    plan = make_plan(model, with_attention_by(attention, scheme))
    read = [name for name in dict(model.named_modules()) if name.endswith("out_proj")]
    assert read
    assert not set(read) & set(plan.layers)
    for name in read:
        reason = rf"MultiheadAttention '{re.escape(name.removesuffix('.out_proj'))}' may read its weight without.*"
        assert re.fullmatch(reason, plan.kept[name])


@ATTENDING
@pytest.mark.parametrize("scheme", [Int8Static(), Int8Dynamic(), Int8WeightOnly()], ids=lambda scheme: scheme.name)
def test_attention_is_quantized_together_with_the_layer_that_it_reads(block: nn.Module, scheme: Scheme):
    plan = make_plan(nn.ModuleDict({"block": block}), scheme.plan)
    attention = {n for n, m in block.named_modules(prefix="block") if isinstance(m, nn.MultiheadAttention)}
    linears = {n for n, m in block.named_modules(prefix="block") if isinstance(m, nn.Linear)}
    assert {f"{name}.out_proj" for name in attention} < attention | linears
    assert set(plan.layers) == attention | linears


@ATTENDING
def test_layers_whose_weights_read_as_float_may_be_read_by_attention_in_float(block: nn.Module):
    plan = make_plan(nn.ModuleDict({"block": block}), with_attention_by(None, Int8WeightOnly()))
    assert set(plan.layers) == {n for n, m in block.named_modules(prefix="block") if isinstance(m, nn.Linear)}


@pytest.mark.parametrize("scheme", [Int8Static(), Int8Dynamic()], ids=["static", "dynamic"])
def test_a_layer_that_an_attention_block_shares_is_kept_under_its_other_name_too(scheme: Scheme):
    model = nn.Module()
    model.first = nn.modules.linear.NonDynamicallyQuantizableLinear(8, 8)
    model.attention = nn.MultiheadAttention(8, 2)
    model.attention.out_proj = model.first
    assert "may read its weight" in make_plan(model, with_attention_by(None, scheme)).kept["first"]


def test_a_scripted_layer_is_kept():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated, and people still have scripted layers
        scripted = torch.jit.script(nn.Linear(2, 2))
    assert int8_plan(nn.Sequential(nn.Linear(2, 2), scripted)).kept == {"1": "it is scripted"}


def test_only_leaves_with_parameters_are_asked_about():
    asked = []

    def decide(name: str, _: nn.Module) -> Keep:
        asked.append(name)
        return Keep("asked")

    make_plan(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.PReLU())), decide)
    assert asked == ["0", "2.0"]


def test_a_chain_of_ties_to_a_kept_layer_keeps_all_of_it():
    model = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[2].bias = model[1].bias
    plan = int8_plan(model)
    assert list(plan.layers) == ["3"]
    assert plan.kept["1"] == "a parameter of it is tied to '0', which stays in float"
    assert plan.kept["2"] == "a parameter of it is tied to '1', which stays in float"


def test_a_plan_that_quantizes_nothing_is_refused_with_the_reasons():
    with pytest.raises(ConfigurationError, match=r"nothing would be quantized:\n  0: int8-static does not quantize"):
        refuse_empty(int8_plan(nn.Sequential(nn.Embedding(2, 2))))


def test_a_model_without_layers_is_refused():
    with pytest.raises(ConfigurationError, match="nothing would be quantized"):
        refuse_empty(int8_plan(nn.Sequential()))


def test_the_bytes_of_a_tensor_that_quantized_layers_share_count_in_the_first():
    layers = {"0": nn.Linear(4, 4, dtype=torch.float64), "1": nn.Linear(4, 4, dtype=torch.float64)}
    layers["1"].weight = layers["0"].weight
    planned = {name: Int8WeightOnly().plan(name, layer) for name, layer in layers.items()}
    sized = with_sizes(planned, layers)
    assert [decision.quantized_bytes for decision in sized.values()] == [(16 + 4) * 8, 4 * 8]
    assert [decision.weights for decision in sized.values()] == [decision.weights for decision in planned.values()]
