"""The paper's formulas: known answers, and slopes against those of autograd."""

import math

import pytest
import torch

from mono_quant.core.adaround.rectified import beta_of, rectified, regularizer_slope, unrectified


@pytest.mark.parametrize(
    ("v", "h"),
    [
        (0.0, 0.5),
        (1.0, 1.2 / (1 + math.exp(-1)) - 0.1),
        (math.log(11), 1.0),  # the sigmoid is 11/12, and 11/12 · 1.2 - 0.1 is 1
        (-math.log(11), 0.0),
        (9.0, 1.0),
        (-9.0, 0.0),
    ],
)
def test_the_rectified_sigmoid(v: float, h: float):
    found, _ = rectified(torch.tensor(v, dtype=torch.float64))
    assert float(found) == pytest.approx(h, abs=1e-15)


def test_its_slope_is_that_of_autograd():
    v = torch.linspace(-4, 4, 401, dtype=torch.float64, requires_grad=True)
    (torch.sigmoid(v) * 1.2 - 0.1).clamp(0, 1).sum().backward()
    _, slope = rectified(v.detach())
    torch.testing.assert_close(slope, v.grad, rtol=1e-12, atol=1e-12)
    assert not slope[v.detach().abs() > math.log(11)].any()


def test_the_way_back():
    h = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(rectified(unrectified(h))[0], h, rtol=0, atol=1e-14)


def regularizer(h: torch.Tensor, beta: float) -> torch.Tensor:
    return (1 - (2 * h - 1).abs() ** beta).sum()


@pytest.mark.parametrize("beta", [2.0, 3.5, 20.0])
def test_the_slope_of_the_regularizer_is_that_of_autograd(beta: float):
    h = torch.linspace(0, 1, 101, dtype=torch.float64, requires_grad=True)
    regularizer(h, beta).backward()
    torch.testing.assert_close(regularizer_slope(h.detach(), beta), h.grad, rtol=1e-12, atol=1e-12)


def test_what_is_nearly_decided_is_pulled_to_where_it_is_nearer():
    slope = regularizer_slope(torch.tensor([0.1, 0.49, 0.51, 0.9]), 2.0)
    assert slope.sign().tolist() == [1, 1, -1, -1]  # descent goes against the slope


def test_beta_waits_a_fifth_of_the_steps_and_falls_evenly_from_20_to_2():
    betas = [beta_of(step, 1000) for step in range(1001)]
    assert not any(betas[:200])
    assert (betas[200], betas[600], betas[1000]) == (20.0, 11.0, 2.0)
    assert betas[200:] == sorted(betas[200:], reverse=True)


@pytest.mark.parametrize("iterations", [1, 2, 3, 7])
def test_few_steps_have_a_beta_above_1(iterations: int):
    betas = [beta_of(step, iterations) for step in range(iterations)]
    assert all(beta == 0 or 2 <= beta <= 20 for beta in betas)
