"""What ``gptq`` alone promises; the rest is in tests/core/rounding."""

import itertools

import pytest
import torch
from refined_layers import batches, linear, output_error, plain, refined, tensors
from torch import Tensor

from mono_quant.core.gptq.solver import solve
from mono_quant.core.rounding.grid import Grid
from mono_quant.core.rounding.input_products import InputProducts
from mono_quant.core.weights import pair_safe_rows
from mono_quant.errors import ConfigurationError, QuantizationWarning


def test_int4_of_inputs_in_few_directions_costs_a_fifth():
    model, data = linear(64, 48), batches(64)
    scheme = {"name": "int4-weight-only", "group_size": 32}
    nearest = output_error(model, plain(model, data, scheme), data)
    assert output_error(model, refined("gptq", model, data, scheme), data) < nearest / 5


def test_rows_whose_codes_would_not_be_safe_keep_those_of_the_scheme():
    model, data = linear(64, 200), batches(64)
    layer = plain(model, data, "int8-static").model[0]
    kept = refined("gptq", model, data, "int8-static").model[0].weight
    products = InputProducts(model[0])
    for x in data:
        products(x)
    grid = Grid.of(layer.stored("weight"), layer.weight_specs["weight"])
    found = solve(model[0].weight.detach(), products.hessian[0], grid)
    safe = pair_safe_rows(found.to(torch.int8))
    assert 0 < int(safe.sum()) < len(safe)
    assert torch.equal(kept[~safe], layer.weight[~safe])
    assert torch.equal(kept[safe], found[safe].to(torch.int8))


@pytest.mark.parametrize("data", [[torch.full((4, 24), 1e30)], [torch.ones(8, 24)]], ids=["overflow", "singular"])
def test_a_layer_of_whose_inputs_nothing_can_be_made_is_named_and_stays(data: list[Tensor]):
    model, scheme = linear(), {"name": "int4-weight-only", "group_size": 8}
    expected = tensors(plain(model, data, scheme))
    with pytest.warns(QuantizationWarning, match="gptq leaves layer '0' as its scheme rounded it"):
        found = tensors(refined("gptq", model, data, scheme, damping=0))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *itertools.product(["block_size", "max_columns"], [0, 1.5, True]),
        *itertools.product(["damping"], [-1, "a", float("nan")]),
    ],
)
def test_options_that_make_no_sense_are_refused(option: str, value: object):
    with pytest.raises(ConfigurationError, match=option):
        refined("gptq", linear(), batches(), "int8-weight-only", **{option: value})
