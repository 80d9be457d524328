"""The error of outputs by the products of inputs is that of the outputs."""

import torch
from correlated import correlated
from torch import Tensor

from mono_quant.core.rounding.row_errors import row_errors


def weight_of(seed: int) -> Tensor:
    return torch.randn(4, 7, generator=torch.Generator().manual_seed(seed)).double()


def test_the_error_is_that_of_the_outputs():
    x, change = correlated(50, 7).double(), weight_of(1) - weight_of(2)
    expected = (x @ change.T).square().sum(0)
    torch.testing.assert_close(row_errors(change, 2 * x.T @ x) / 2, expected, rtol=1e-9, atol=0)


def test_groups_have_each_its_own():
    xs = torch.stack([correlated(50, 7, seed=seed) for seed in range(3)]).double()
    changes = torch.stack([weight_of(seed) for seed in range(3)])
    hessians = xs.mT @ xs
    together = row_errors(changes, hessians)
    assert together.shape == (3, 4)
    for group in range(3):
        torch.testing.assert_close(together[group], row_errors(changes[group], hessians[group]), rtol=1e-12, atol=0)
