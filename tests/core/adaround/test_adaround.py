"""What ``adaround`` alone promises; the rest is in tests/core/rounding."""

import itertools

import pytest
import torch
from refined_layers import batches, linear, output_error, plain, refined, tensors

from mono_quant import Quantizer
from mono_quant.core.weights import is_pair_safe
from mono_quant.errors import ConfigurationError, QuantizationWarning


def test_int4_of_inputs_in_few_directions_costs_a_fifth():
    model, data = linear(64, 48), batches(64)
    scheme = {"name": "int4-weight-only", "group_size": 32}
    nearest = output_error(model, plain(model, data, scheme), data)
    assert output_error(model, refined("adaround", model, data, scheme), data) < nearest / 5


def test_all_rows_of_int8_gain_for_none_leaves_what_is_safe_on_every_cpu():
    model, data = linear(64, 200), batches(64)
    before, after = plain(model, data, "int8-static"), refined("adaround", model, data, "int8-static")
    assert is_pair_safe(after.model[0].weight)
    assert bool((before.model[0].weight != after.model[0].weight).any(dim=1).all())


def test_codes_are_those_of_the_scheme_or_next_to_them():
    model, data = linear(64, 48), batches(64)
    scheme = {"name": "int8-weight-only"}
    results = plain(model, data, scheme), refined("adaround", model, data, scheme)
    before, after = (result.model[0].stored("weight")[""].int() for result in results)
    weight = model[0].weight.detach() / results[0].model[0].stored("weight")["_scale"][:, None]
    assert set((after - before).unique().tolist()) == {-1, 0, 1}
    assert bool(((after - weight).abs() < 1).all())


@pytest.mark.parametrize("threads", [1, 2])
def test_the_codes_do_not_depend_on_the_threads(threads: int):
    model, data = linear(96, 80), batches(96)
    scheme = {"name": "int4-weight-only", "group_size": 32}
    count = torch.get_num_threads()
    expected = tensors(refined("adaround", model, data, scheme))
    torch.set_num_threads(threads)
    try:
        found = tensors(refined("adaround", model, data, scheme))
    finally:
        torch.set_num_threads(count)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_codes_that_another_algorithm_found_stay_where_they_are_better():
    model, data = linear(64, 48), batches(64)
    scheme = {"name": "int4-weight-only", "group_size": 32}
    alone = [output_error(model, refined(name, model, data, scheme), data) for name in ("gptq", "adaround")]
    orders = (["gptq", "adaround"], ["adaround", "gptq"])
    both = [Quantizer(scheme, algorithms=names, show_progress=False).quantize(model, data) for names in orders]
    assert all(output_error(model, result, data) < min(alone) for result in both)
    assert torch.equal(*(result.model[0].stored("weight")[""] for result in both))


def test_a_layer_whose_inputs_overflow_is_named_and_stays():
    model, scheme = linear(), {"name": "int4-weight-only", "group_size": 8}
    data = [torch.full((4, 24), 1e30)]
    expected = tensors(plain(model, data, scheme))
    with pytest.warns(QuantizationWarning, match="adaround leaves layer '0' as its scheme rounded it: the products"):
        found = tensors(refined("adaround", model, data, scheme))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_inputs_of_extreme_sizes_make_nothing_worse(size: float):
    model, data = linear(), [x * size for x in batches()]
    scheme = {"name": "int4-weight-only", "group_size": 8}
    before, after = plain(model, data, scheme), refined("adaround", model, data, scheme)
    assert output_error(model, after, data) < output_error(model, before, data)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *itertools.product(["iterations", "max_columns"], [0, 1.5, True]),
        *itertools.product(["regularization"], [-1, "a", float("nan"), float("inf")]),
    ],
)
def test_options_that_make_no_sense_are_refused(option: str, value: object):
    with pytest.raises(ConfigurationError, match=option):
        refined("adaround", linear(), batches(), "int8-weight-only", **{option: value})
