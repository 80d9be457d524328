"""What AWQ collects, against all rows at once in float64."""

import pytest
import torch
from torch import Tensor, nn

from mono_quant.core.awq.seen_inputs import SeenInputs


def seen(*batches: Tensor) -> SeenInputs:
    statistic = SeenInputs(nn.Linear(6, 4))
    for x in batches:
        statistic(x)
    return statistic


def rows(count: int = 40) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 9, 0.1, 1e4, 1, 1e-6])


@pytest.mark.parametrize("sizes", [(40,), (1, 39), (10, 0, 20, 10)])
def test_it_is_the_same_however_rows_are_divided(sizes: tuple[int, ...]):
    found, x = seen(*rows().split(sizes)), rows().double()
    torch.testing.assert_close(found.magnitude, x.abs().mean(0))
    torch.testing.assert_close(found.hessian.double(), 2 * x.T @ x, rtol=1e-5, atol=1e-3)


def test_rows_may_have_any_axes():
    one, other = seen(rows()), seen(rows().reshape(2, 5, 4, 6))
    assert torch.equal(one.magnitude, other.magnitude)
    assert torch.equal(one.hessian, other.hessian)


def test_the_same_inputs_have_the_same_fingerprint_and_others_another():
    assert seen(rows()).fingerprint == seen(rows()).fingerprint
    for other in (-rows(), rows().abs(), rows() * 1.001):
        assert seen(other).fingerprint != seen(rows()).fingerprint


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_what_cannot_be_summed_is_of_no_use(bad: float):
    x = rows()
    x[3, 2] = bad
    assert not seen(x).is_usable
    assert seen(rows()).is_usable


def test_nothing_and_zeros_are_of_no_use():
    assert not seen().is_usable
    assert not seen(torch.zeros(0, 6)).is_usable
    assert not seen(torch.zeros(3, 6)).is_usable
    with pytest.raises(RuntimeError, match="no input was seen"):
        _ = seen().magnitude


def test_memory_does_not_grow_with_the_rows():
    statistic = seen(rows())
    before = statistic.hessian.numel() + statistic.magnitude.numel()
    for _ in range(20):
        statistic(rows(200))
    assert statistic.hessian.numel() + statistic.magnitude.numel() == before == 6 * 6 + 6
