"""What a kernel that makes float32 of large sums may be off by, and no more."""

import attrs
import pytest
import torch
from torch import Tensor

from mono_quant.core.affine import quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.plugin_api.kernel import QuantizedOp
from mono_quant.testing.distance import distance_from_reference, floats_of


def layer(columns: int, zero_point: int) -> tuple[QuantizedOp, Tensor]:
    """All weights are as large as they can be; about half of each sum goes with the zero point."""
    op = QuantizedOp(
        kind="linear",
        weight=torch.full((3, columns), 127, dtype=torch.int8),
        weight_scale=torch.tensor([1.0, 0.1, 0.3]),
        bias=None,
        input_scale=0.5,
        input_zero_point=zero_point,
    )
    codes = torch.randint(0, 256, (16, columns), generator=torch.Generator().manual_seed(0))
    return op, floats_of(codes, op)


def run_in_float(op: QuantizedOp, x: Tensor, *, off_by: float = 0.0) -> Tensor:
    """Both parts are rounded to float32, and then subtracted; ``off_by`` is added to the first."""
    assert op.input_scale is not None
    assert op.input_zero_point is not None
    codes = quantize(x, op.input_scale, op.input_zero_point, UINT8)
    products = codes.double() @ op.weight.double().T + off_by
    of_zero_point = op.input_zero_point * op.weight.double().sum(1)
    return (products.float() - of_zero_point.float()) * (op.weight_scale * op.input_scale)


@pytest.mark.parametrize("columns", [1024, 4096, 30000])
def test_large_sums_may_be_rounded_by_a_kernel_that_says_so_and_by_no_other(columns: int):
    op, x = layer(columns, 127)
    y = run_in_float(op, x)
    assert distance_from_reference(y, x, op, rounds_sums=True) <= 1
    assert distance_from_reference(y, x, op) > 1


@pytest.mark.parametrize("columns", [1024, 4096, 30000])
def test_more_than_rounding_is_found(columns: int):
    op, x = layer(columns, 127)
    largest = 127.0 * 255 * columns
    assert distance_from_reference(run_in_float(op, x, off_by=8 * largest / 2**24), x, op, rounds_sums=True) > 1


def test_sums_that_float32_holds_are_held_to_the_last_one():
    op, x = layer(200, 127)
    assert distance_from_reference(run_in_float(op, x), x, op, rounds_sums=True) <= 1
    assert distance_from_reference(run_in_float(op, x, off_by=1), x, op, rounds_sums=True) > 1


def test_a_dynamic_op_and_one_with_a_bias_are_measured_alike():
    op, x = layer(4096, 127)
    biased = attrs.evolve(op, bias=torch.tensor([5.0, -3.0, 0.0]))
    assert distance_from_reference(run_in_float(op, x) + biased.bias, x, biased, rounds_sums=True) <= 1
    dynamic = attrs.evolve(op, input_scale=None, input_zero_point=None)
    scale, zero_point = dynamic.input_qparams(x)
    static = attrs.evolve(op, input_scale=scale, input_zero_point=zero_point)
    assert distance_from_reference(run_in_float(static, x), x, dynamic, rounds_sums=True) <= 1
