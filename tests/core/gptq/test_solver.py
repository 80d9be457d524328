"""The solver against the book's method in float64, and against all codes that there are."""

import pytest
import torch
from correlated import correlated, white
from slow_gptq import best_of_all, error, obq, value
from torch import Tensor

from mono_quant.core.affine import choose_qparams, codes_of
from mono_quant.core.gptq.solver import factor_of_inverse, solve
from mono_quant.core.qtypes import int_type
from mono_quant.core.rounding.grid import Grid


def weight_of(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).double()


def hessian_of(x: Tensor) -> Tensor:
    return 2 * x.double().T @ x.double()


def grid_of(weight: Tensor, bits: int, size: int, *, symmetric: bool = False) -> Grid:
    parts = weight.split(size, dim=1)
    low, high = (torch.stack([end(part, dim=1) for part in parts], dim=1) for end in (torch.amin, torch.amax))
    scale, zero_point = choose_qparams(low, high, int_type(bits), symmetric=symmetric)
    return Grid(int_type(bits), scale.double(), zero_point.double(), size)


def nearest(weight: Tensor, grid: Grid) -> Tensor:
    group = [j // grid.group_size for j in range(weight.shape[1])]
    return codes_of(weight, grid.scale_RG[:, group], grid.zero_point_RG[:, group], grid.qtype)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [4, 5, 19])
@pytest.mark.parametrize("block_size", [1, 7, 128])
@pytest.mark.parametrize("damping", [0.01, 0.3])
def test_the_codes_are_those_of_the_book(bits: int, size: int, block_size: int, damping: float):
    weight, hessian = weight_of(6, 19), hessian_of(correlated(200, 19))
    grid = grid_of(weight, bits, size)
    found = solve(weight, hessian, grid, damping=damping, block_size=block_size)
    expected = obq(weight, hessian, grid.scale_RG, grid.zero_point_RG, size=size, bits=bits, damping=damping)
    assert found is not None
    assert torch.equal(found, expected)
    assert not torch.equal(found, nearest(weight, grid))


def test_columns_without_input_are_zero_and_in_nobodys_way():
    x = correlated(200, 12)
    x[:, [2, 7]] = 0
    weight, hessian = weight_of(5, 12), hessian_of(x)
    grid = grid_of(weight, 4, 6)
    found = solve(weight, hessian, grid)
    assert found is not None
    assert torch.equal(found, obq(weight, hessian, grid.scale_RG, grid.zero_point_RG, size=6, bits=4))
    assert not grid.values(found)[:, [2, 7]].any()


@pytest.mark.parametrize("size", [3, 6])
def test_the_error_lies_between_the_best_there_is_and_that_of_the_nearest_codes(size: int):
    lost = []
    for seed in range(8):
        weight, hessian = weight_of(4, 6, seed), hessian_of(correlated(100, 6, rank=2, seed=seed))
        grid = grid_of(weight, 2, size)
        found = solve(weight, hessian, grid)
        assert found is not None
        errors = error(weight, value(found, grid.scale_RG, grid.zero_point_RG, size), hessian)
        plain = error(weight, grid.values(nearest(weight, grid)), hessian)
        rows = zip(weight, grid.scale_RG, grid.zero_point_RG, strict=True)
        best = torch.tensor(
            [best_of_all(row, hessian, s, z, size=size, bits=2) for row, s, z in rows], dtype=torch.float64
        )
        assert bool((errors >= best * (1 - 1e-9)).all())
        lost.append(torch.stack([best.sum(), errors.sum(), plain.sum()]))
    best, errors, plain = torch.stack(lost).sum(0)
    assert best < errors < 0.7 * plain  # of all together: a row alone may lose, with as few columns to make up for it


@pytest.mark.parametrize("symmetric", [True, False])
def test_where_columns_are_orthogonal_the_codes_are_the_nearest(symmetric: bool):  # noqa: FBT001
    weight = weight_of(6, 16)
    grid = grid_of(weight, 4, 8, symmetric=symmetric)
    assert torch.equal(solve(weight, hessian_of(white(16)), grid), nearest(weight, grid))


@pytest.mark.parametrize("columns", [1, 14, 64, 65, 200])
def test_the_factor_is_that_of_the_inverse(columns: int):
    hessian = hessian_of(correlated(300, columns))
    upper = factor_of_inverse(hessian)
    assert upper is not None
    inverse = torch.linalg.inv(hessian)
    torch.testing.assert_close(upper.T @ upper, inverse, rtol=1e-9, atol=1e-9 * float(inverse.abs().max()))
    assert torch.equal(upper, upper.triu())


@pytest.mark.parametrize(
    "hessian",
    [torch.ones(3, 3), -torch.eye(3), torch.full((3, 3), torch.nan), torch.full((3, 3), torch.inf)],
    ids=["singular", "negative", "nan", "infinite"],
)
def test_a_matrix_without_a_factor_gives_no_codes(hessian: Tensor):
    weight = weight_of(4, 3)
    assert solve(weight, hessian.double(), grid_of(weight, 4, 3), damping=0) is None


def test_the_weight_and_the_products_are_left_as_they_are():
    weight, hessian = weight_of(6, 19), hessian_of(correlated(200, 19))
    kept = weight.clone(), hessian.clone()
    solve(weight, hessian, grid_of(weight, 4, 5))
    assert torch.equal(weight, kept[0])
    assert torch.equal(hessian, kept[1])
