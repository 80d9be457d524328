import math

import pytest
import torch

from mono_quant.core.blocks import row_blocks
from mono_quant.core.sqnr import energy
from mono_quant.core.weights import is_pair_safe, quantize_weight

MILLION = 2**20
SHAPES = [(0,), (0, 3), (3, 0), (5, 3), (MILLION,), (3 * MILLION + 1,), (2, MILLION + 1), (300, 8191), (1, 2 * MILLION)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@shapes
def test_each_row_is_in_one_block_and_they_are_in_order(shape: tuple[int, ...]):
    blocks = row_blocks(torch.empty(shape))
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(shape[0]))


@shapes
def test_a_block_of_more_than_one_row_holds_at_most_a_million_elements(shape: tuple[int, ...]):
    rows = torch.empty(shape)
    assert all(rows[block].numel() <= MILLION or block.stop - block.start == 1 for block in row_blocks(rows))


def test_a_weight_of_several_blocks_is_quantized_row_by_row():
    weight = torch.randn(5, MILLION // 2 + 1)
    codes, scale = quantize_weight(weight)
    for row, row_codes, row_scale in zip(weight, codes, scale, strict=True):
        alone, alone_scale = quantize_weight(row[None])
        assert torch.equal(row_codes, alone[0])
        assert row_scale == alone_scale[0]


@pytest.mark.parametrize("row", [0, 2, 4])
def test_an_unsafe_row_is_found_in_whatever_block_it_is(row: int):
    codes = torch.zeros(5, MILLION // 2 + 1, dtype=torch.int8)
    assert is_pair_safe(codes)
    codes[row, 0] = codes[row, -1] = 100
    assert not is_pair_safe(codes)


def test_the_energy_of_several_blocks_is_that_of_all_elements():
    x, approximation = torch.full((3, MILLION), 3.0), torch.full((3, MILLION), 1.0)
    x[-1, -1] = 5.0
    assert energy(x, approximation) == (9.0 * (3 * MILLION - 1) + 25, 4.0 * (3 * MILLION - 1) + 16)


def test_a_number_that_is_not_finite_is_found_in_the_last_block():
    x = torch.ones(2 * MILLION + 1)
    x[-1] = math.nan
    assert all(map(math.isnan, energy(x, x)))
