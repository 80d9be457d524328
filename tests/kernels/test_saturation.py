"""Whether a kernel adds two products in int16 is found by computing the worst case."""

import attrs
import planted_kernels as planted
import pytest
import torch

from mono_quant.core.weights import is_pair_safe
from mono_quant.kernels.saturation import adds_pairs_in_int16, worst_conv, worst_linear
from mono_quant.plugin_api.kernel import QuantizedOp

WORST = pytest.mark.parametrize("worst", [worst_linear, worst_conv])


def clipping_linear(op: QuantizedOp) -> planted.Run:
    return planted.pairs_added_in_int16(attrs.evolve(op, bias=torch.zeros(())))


def clipping_conv(op: QuantizedOp) -> planted.Run:
    run = planted.right(op)
    return run if op.kind == "linear" else lambda x: run(x).clamp(max=op.weight[0].numel() / 2 * (2**15 - 1))


def test_exact_arithmetic_is_not_taken_for_pairing():
    assert not adds_pairs_in_int16(planted.right, worst_linear(), worst_conv())


def test_a_clipped_linear_is_found():
    assert adds_pairs_in_int16(clipping_linear, worst_linear())


def test_one_clipped_operator_is_enough():
    assert not adds_pairs_in_int16(clipping_conv, worst_linear())
    assert adds_pairs_in_int16(clipping_conv, worst_linear(), worst_conv())


def test_codes_of_the_pair_safe_rule_are_not_clipped():
    for code in (64, -64):
        assert not adds_pairs_in_int16(clipping_linear, worst_linear(code))


@pytest.mark.parametrize("code", [65, 127, -65, -127])
def test_codes_just_beyond_the_rule_are(code: int):
    assert adds_pairs_in_int16(clipping_linear, worst_linear(code))


@WORST
def test_the_worst_layers_have_the_largest_code_everywhere(worst: type[QuantizedOp]):
    assert worst().weight.unique().tolist() == [127]
    assert not is_pair_safe(worst().weight)
