"""The reference kernel against integers added one by one."""

import attrs
import pytest
import torch
from exact_layers import exact_output, exact_sum

from mono_quant.core.affine import SMALLEST_SCALE
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api.kernel import QuantizedOp
from mono_quant.testing import adversarial
from mono_quant.testing.distance import ROUNDING, floats_of

REFERENCE = ReferenceKernel()


def linear(weight: torch.Tensor, **changes: object) -> QuantizedOp:
    """A linear op whose scales are 1, so that its outputs are its sums."""
    op = QuantizedOp(
        kind="linear",
        weight=weight,
        weight_scale=torch.ones(len(weight)),
        bias=None,
        input_scale=1.0,
        input_zero_point=0,
    )
    return attrs.evolve(op, **changes)


@pytest.mark.parametrize("geometry", adversarial.GEOMETRIES, ids=str)
def test_its_sums_are_exact(geometry: adversarial.Geometry):
    weights = adversarial.weights(geometry) | adversarial.full_range_weights(geometry)
    for label, zero_point in (("full-negative", 0), ("full-positive", 255), ("one-large", 131), ("random", 77)):
        op = attrs.evolve(next(adversarial.ops(geometry, weights[label])), input_zero_point=zero_point)
        sums = attrs.evolve(op, weight_scale=torch.ones(geometry.out), input_scale=1.0, bias=None)
        for codes in adversarial.codes(geometry).values():
            assert torch.equal(REFERENCE.pack(sums)(floats_of(codes, sums)), exact_sum(codes, sums).float())


@pytest.mark.parametrize("geometry", adversarial.GEOMETRIES[::4], ids=str)
def test_scales_and_bias_cost_four_roundings(geometry: adversarial.Geometry):
    for op in adversarial.ops(geometry, adversarial.full_range_weights(geometry)["full-positive"]):
        codes = adversarial.codes(geometry)["random"]
        expected, product = exact_output(codes, op)
        bias = 0 if op.bias is None else (expected - product).abs()
        error = (REFERENCE.pack(op)(floats_of(codes, op)).double() - expected).abs()
        # sum to float32, product of the scales, product with it, bias; 1% for the products of those roundings
        assert bool((error <= 1.01 * 4 * ROUNDING * (product.abs() + bias)).all())


def test_a_sum_beyond_float32s_integers_is_rounded_once_to_nearest():
    weight = torch.full((1, 70_001), 127, dtype=torch.int8)
    weight[0, 0] = 126
    total = 255 * (127 * 70_000 + 126)  # 2 266 982 130: needs 32 bits
    assert REFERENCE.pack(linear(weight))(torch.full((1, 70_001), 255.0)).item() == torch.tensor(total).float().item()


def test_a_small_term_is_not_lost_beside_large_ones_that_cancel():
    weight = torch.tensor([[127] * 9000 + [1] + [-127] * 9000], dtype=torch.int8)
    assert REFERENCE.pack(linear(weight))(torch.full((1, 18_001), 255.0)).item() == 255


def test_ties_go_to_the_even_code():
    x = torch.tensor([[0.5], [1.5], [2.5], [253.5], [254.5]])
    assert REFERENCE.pack(linear(torch.ones(1, 1, dtype=torch.int8)))(x).flatten().tolist() == [0, 2, 2, 254, 254]


@pytest.mark.parametrize(("value", "code"), [(1e30, 255), (float("inf"), 255), (-1e30, 0), (-float("inf"), 0)])
def test_values_beyond_the_range_become_the_outermost_codes(value: float, code: int):
    op = linear(torch.ones(1, 1, dtype=torch.int8), input_zero_point=100)
    assert REFERENCE.pack(op)(torch.tensor([[value]])).item() == code - 100


def test_the_smallest_scale_does_not_become_zero():
    op = linear(torch.full((1, 1), 127, dtype=torch.int8), weight_scale=torch.tensor([SMALLEST_SCALE]))
    assert REFERENCE.pack(op)(torch.full((1, 1), 255.0)).item() == pytest.approx(127 * 255 * SMALLEST_SCALE, rel=3e-7)


def test_padding_is_with_real_zeros_whatever_the_zero_point():
    weight = torch.ones(1, 1, 3, dtype=torch.int8)
    op = linear(weight, kind="conv1d", stride=(1,), padding=(1,), dilation=(1,), input_zero_point=200)
    assert REFERENCE.pack(op)(torch.full((1, 1, 3), 5.0)).flatten().tolist() == [10, 15, 10]


def test_a_dynamic_op_takes_its_scale_from_each_input():
    op = linear(torch.ones(1, 2, dtype=torch.int8), input_scale=None, input_zero_point=None)
    run = REFERENCE.pack(op)
    assert [run(torch.tensor([[0.0, top]])).item() for top in (255.0, 510.0, 0.0)] == [255, 510, 0]


def test_it_runs_wherever_there_is_float64():
    op = linear(torch.ones(1, 1, dtype=torch.int8))
    assert REFERENCE.supports(op, torch.device("meta"))
    assert REFERENCE.supports(op, torch.device("mps")).why_not == "the device has no float64"
