"""Max-pooling in any layout against torch's."""

import math
from itertools import product

import pytest
import torch
from torch.nn import functional

from mono_quant.core.pooling import max_pool2d

CASES = [
    (kernel, stride, padding, dilation)
    for kernel, stride, padding, dilation in product(
        [(1, 1), (2, 2), (3, 3), (3, 2)], [(1, 1), (2, 2), (3, 1)], [(0, 0), (1, 1), (0, 1)], [(1, 1), (2, 1)]
    )
    if all(2 * pad <= size for pad, size in zip(padding, kernel, strict=True))
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_gives_what_torch_gives_on_floats(case: tuple[tuple[int, int], ...], layout: torch.memory_format):
    codes = torch.randint(0, 256, (2, 5, 9, 11), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for given in (codes, codes // 255, torch.full_like(codes, 255), torch.zeros_like(codes)):
        expected = functional.max_pool2d(given.float(), *case)
        actual = max_pool2d(given.contiguous(memory_format=layout), *case)
        assert actual.dtype == torch.uint8
        assert torch.equal(actual.float(), expected)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_floats_are_pooled_bit_for_bit(case: tuple[tuple[int, int], ...], layout: torch.memory_format):
    x = torch.randn(2, 5, 9, 11, generator=torch.Generator().manual_seed(0))
    x[0, 0, 4, 4], x[0, 1, 3, 3], x[1, 2, 8, 8] = math.nan, math.inf, -math.inf
    for given in (x, -x.abs(), torch.zeros_like(x)):
        expected = functional.max_pool2d(given, *case)
        actual = max_pool2d(given.contiguous(memory_format=layout), *case)
        assert torch.equal(actual.isnan(), expected.isnan())
        assert torch.equal(actual.nan_to_num(7), expected.nan_to_num(7))


def test_an_input_of_one_window_gives_one_code():
    codes = torch.arange(12, dtype=torch.uint8).reshape(1, 1, 3, 4)
    assert max_pool2d(codes, (3, 4), (1, 1), (0, 0), (1, 1)).tolist() == [[[[11]]]]


def test_the_codes_are_left_as_they_were():
    codes = torch.randint(0, 256, (1, 2, 6, 6), dtype=torch.uint8)
    before = codes.clone()
    max_pool2d(codes, (2, 2), (2, 2), (0, 0), (1, 1))
    assert torch.equal(codes, before)
