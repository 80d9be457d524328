"""``H`` is the exact sum, whatever a batch is divided into, and its bits do not depend on the number of threads."""

import pytest
import torch
from torch import Tensor, nn

from mono_quant.core.rounding.input_products import InputProducts

LAYERS = {
    "linear": (nn.Linear(20, 3), (1000, 20)),
    "few columns": (nn.Conv2d(3, 4, 3), (4, 3, 40, 40)),
    "in groups": (nn.Conv1d(8, 8, 3, groups=4), (6, 8, 700)),
}


def hessian(layer: nn.Module, *inputs: Tensor) -> Tensor:
    products = InputProducts(layer)
    for x in inputs:
        products(x)
    return products.hessian


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_it_is_the_sum_over_all_rows(layer: nn.Module, shape: tuple[int, ...]):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    groups = getattr(layer, "groups", 1)
    if isinstance(layer, nn.Linear):
        rows = x[None]
    else:
        patches = nn.functional.unfold(x[:, :, None] if x.ndim == 3 else x, (1, 3) if x.ndim == 3 else 3)
        rows = patches.transpose(1, 2).flatten(0, 1).unflatten(1, (groups, -1)).transpose(0, 1)
    expected = 2 * rows.double().mT @ rows.double()
    assert torch.allclose(hessian(layer, x).double(), expected, rtol=1e-4, atol=1e-3)


def test_rows_are_added_256_at_a_time_on_every_cpu():
    layer, x = nn.Linear(20, 3), torch.randn(1000, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hessian(layer, x), hessian(layer, *x.split(256)))


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_threads_change_no_bit(layer: nn.Module, shape: tuple[int, ...]):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(hessian(layer, x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
