"""The solver against the book's method in float64, against all pairs that there are, and on hostile groups."""

import pytest
import torch
from slow_hqq import best_of_all, sum_of_powers
from slow_hqq import split as split_by_the_book
from torch import Tensor

from mono_quant.core.affine import SMALLEST_SCALE, choose_qparams
from mono_quant.core.hqq.splitting import split
from mono_quant.core.qtypes import QType, int_type

LARGEST = torch.finfo(torch.float32).max


def normal(groups: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(groups, size, generator=torch.Generator().manual_seed(seed))


def given(weight: Tensor, qtype: QType, *, is_symmetric: bool = False) -> tuple[Tensor, Tensor]:
    scale, zero_point = choose_qparams(
        weight.amin(1, keepdim=True), weight.amax(1, keepdim=True), qtype, symmetric=is_symmetric
    )
    return scale, zero_point.float()


def found(
    weight: Tensor, bits: int, *, is_symmetric: bool = False, power: float = 0.7, steps: int = 20
) -> tuple[Tensor, Tensor]:
    qtype = int_type(bits)
    before = given(weight, qtype, is_symmetric=is_symmetric)
    return split(weight, *before, qtype, is_symmetric=is_symmetric, power=power, steps=steps)


def sums(
    weight: Tensor, scale: Tensor, zero_point: Tensor, unit: Tensor, bits: int, *, power: float = 0.7
) -> list[float]:
    """``Σ |r|^p`` of each group, in steps of ``unit``."""
    low, high = int_type(bits).qmin, int_type(bits).qmax
    rows = zip(weight.tolist(), scale.flatten().tolist(), zero_point.flatten().tolist(), unit.tolist(), strict=True)
    return [sum_of_powers(row, s, z, low, high, power=power, unit=u[0]) for row, s, z, u in rows]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("is_symmetric", [False, True])
@pytest.mark.parametrize("power", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("steps", [1, 20])
def test_it_does_as_the_book(bits: int, is_symmetric: bool, power: float, steps: int):  # noqa: FBT001
    weight, qtype = normal(24, 32), int_type(bits)
    weight[::3] += 2  # of one sign, nearly
    weight[1::3, 5] *= 10
    before = given(weight, qtype, is_symmetric=is_symmetric)
    scale, zero_point = split(weight, *before, qtype, is_symmetric=is_symmetric, power=power, steps=steps)
    assert not torch.equal(scale, before[0])
    same = 0
    for row in range(len(weight)):
        expected = split_by_the_book(
            weight[row].tolist(), float(before[0][row]), float(before[1][row]), qtype.qmin, qtype.qmax,
            is_symmetric=is_symmetric, power=power, steps=steps,
        )  # fmt: skip
        is_same = float(scale[row]) == pytest.approx(expected[0], rel=1e-4) and float(zero_point[row]) == expected[1]
        same += is_same
    # A weight halfway between two codes may go the other way in float32, and the rest with it.
    assert same >= len(weight) - 2


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("power", [0.7, 1.0])
def test_it_comes_near_the_best_of_all_pairs(bits: int, power: float):
    weight, qtype = normal(20, 32), int_type(bits)
    first, _ = before = given(weight, qtype)
    left = torch.tensor(sums(weight, *found(weight, bits, power=power), first, bits, power=power))
    nearest = torch.tensor(sums(weight, *before, first, bits, power=power))
    pairs = zip(weight.tolist(), first.flatten().tolist(), strict=True)
    span = qtype.qmax - qtype.qmin
    best = torch.tensor([best_of_all(row, s, qtype.qmin, qtype.qmax, power=power) for row, s in pairs]) * span**power
    assert (left >= best * 0.99).all()  # the grid of scales is not endless
    assert (nearest - left).mean() > 0.3 * (nearest - best).mean()  # it goes down from where it is, not everywhere


def test_weights_between_two_codes_get_codes_of_their_own():
    weight = torch.tensor([[-1.0, -0.9, -1.1, 0.0, 0.1, 0.9, 1.0, 1.1, 1.25]]).repeat(1, 4)
    scale, zero_point = found(weight, 2)  # the range of the scheme has its codes at 0, 0.78 and 1.57
    assert float(scale) == pytest.approx(1.0, abs=0.1)
    assert float(zero_point) in (-1.0, 0.0)


HOSTILE = {
    "zeros": torch.zeros(3, 16),
    "one number": torch.full((3, 16), -0.3),
    "one sign": normal(3, 16).abs() + 5,
    "one weight": normal(3, 1),
    "two weights": normal(3, 2),
    "huge": normal(3, 16) * 1e37,
    "largest": torch.tensor([[2.5e38, -2.5e38, 1.0, 0.0]]),
    "tiny": normal(3, 16) * 1e-38,
    "denormal": normal(3, 16) * 1e-44,
    "one that stands out": torch.cat([normal(3, 15) * 1e-6, torch.ones(3, 1)], dim=1),
    "on the grid": torch.arange(-8.0, 8).expand(3, 16),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("is_symmetric", [False, True])
def test_no_group_gets_worse_and_all_numbers_can_be_stored(name: str, bits: int, is_symmetric: bool):  # noqa: FBT001
    weight, qtype = HOSTILE[name], int_type(bits)
    before = given(weight, qtype, is_symmetric=is_symmetric)
    scale, zero_point = split(weight, *before, qtype, is_symmetric=is_symmetric, power=0.7, steps=20)
    assert (scale >= SMALLEST_SCALE).all()
    assert torch.isfinite(scale * (qtype.qmax - qtype.qmin)).all() or torch.equal(scale, before[0])
    assert torch.equal(zero_point, zero_point.round())
    assert ((zero_point >= qtype.qmin) & (zero_point <= qtype.qmax)).all()
    if is_symmetric:
        assert torch.equal(zero_point, before[1])
    first = before[0].double()
    left, nearest = (sums(weight.double(), s, z, first, bits) for s, z in ((scale, zero_point), before))
    rounding = weight.shape[1] * 5e-7**0.7  # of float32, as a part of the range
    assert all(after <= limit + rounding for after, limit in zip(left, nearest, strict=True))


def test_what_cannot_gain_is_given_back_bit_for_bit():
    for weight in (torch.zeros(2, 8), torch.arange(-8.0, 8).expand(2, 16)):
        before = given(weight, int_type(4))
        assert all(map(torch.equal, found(weight, 4), before))


@pytest.mark.parametrize("exponent", [-40, -3, 5, 60])
def test_a_weight_that_is_larger_gets_a_larger_scale_and_nothing_else_changes(exponent: int):
    weight = normal(16, 32)
    scale, zero_point = found(weight, 3)
    assert all(map(torch.equal, found(weight * 2.0**exponent, 3), (scale * 2.0**exponent, zero_point)))


def test_groups_do_not_know_of_each_other():
    weight = normal(16, 32)
    together = found(weight, 3)
    alone = [torch.cat(parts) for parts in zip(*(found(row[None], 3) for row in weight), strict=True)]
    assert all(map(torch.equal, together, alone))


def test_nothing_that_is_given_changes():
    weight, qtype = normal(8, 16), int_type(3)
    scale, zero_point = given(weight, qtype)
    copies = [x.clone() for x in (weight, scale, zero_point)]
    split(weight, scale, zero_point, qtype, is_symmetric=False, power=0.7, steps=20)
    assert all(map(torch.equal, copies, (weight, scale, zero_point)))


def test_a_group_of_one_code_keeps_its_zero_point():
    weight, qtype = torch.full((1, 8), 5.0), int_type(4)
    before = (torch.tensor([[1.0]]), torch.tensor([[-4.0]]))  # every weight has the code 1
    scale, zero_point = split(weight + 0.3, *before, qtype, is_symmetric=False, power=0.7, steps=20)
    assert float(zero_point) == -4
    assert float(scale) == pytest.approx(5.3 / 5)
