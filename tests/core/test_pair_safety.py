from itertools import combinations, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mono_quant.core.weights import MAX_PAIR_SUM, is_pair_safe

INT16 = torch.iinfo(torch.int16)
near_the_bound = st.sampled_from((-128, -127, -65, -64, -63, -1, 0, 1, 2, 63, 64, 65, 126, 127))
codes = st.one_of(st.lists(st.integers(-128, 127), max_size=8), st.lists(near_the_bound, max_size=4))


def fits_int16(row: list[int]) -> bool:
    """Whether every two codes, with the worst activations of [0, 255], stay inside int16: all pairs, exact integers."""
    pairs = combinations([*row, 0], 2)
    sums = (a * x + b * y for (a, b), x, y in product(pairs, (0, 255), (0, 255)))
    return all(INT16.min <= one <= INT16.max for one in sums)


@given(row=codes)
def test_a_row_is_pair_safe_exactly_where_no_pair_leaves_int16(row: list[int]):
    assert is_pair_safe(torch.tensor([row], dtype=torch.int8)) == fits_int16(row)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([64, 64], True),
        ([65, 64], False),
        ([-64, -64], True),
        ([-65, -64], False),
        ([127, 1], True),
        ([127, 2], False),
        ([127, -128], True),
        ([-128, 0], True),
        ([-128, -1], False),
        ([127], True),
        ([-128], True),
        ([0, 127, 0, 0, 2], False),
        ([0, 0], True),
        ([], True),
    ],
)
def test_known_rows_are_judged_right(row: list[int], expected: bool):  # noqa: FBT001
    assert fits_int16(row) == expected
    assert is_pair_safe(torch.tensor([row], dtype=torch.int8)) == expected


def test_the_largest_pair_sum_is_the_largest_that_int16_holds():
    assert 255 * MAX_PAIR_SUM <= INT16.max < 255 * (MAX_PAIR_SUM + 1)


def test_codes_of_different_rows_are_never_paired():
    assert is_pair_safe(torch.tensor([[127, 0], [127, 0]], dtype=torch.int8))


def test_one_unsafe_row_makes_a_weight_unsafe():
    assert not is_pair_safe(torch.tensor([[1, 1], [127, 127], [1, 1]], dtype=torch.int8))


def test_all_codes_of_an_output_channel_are_one_row_wherever_they_stand():
    kernel = torch.zeros(2, 3, 3, 3, dtype=torch.int8)
    kernel[1, 0, 0, 0] = kernel[1, 2, 2, 2] = 127
    assert not is_pair_safe(kernel)
