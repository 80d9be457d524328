"""A convolution is the linear layer of its patches, and the products are those of all rows at once."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from mono_quant.core import blocks
from mono_quant.core.rounding.input_products import InputProducts
from mono_quant.core.rounding.input_rows import input_rows

KINDS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
OPTIONS = [
    {}, {"stride": 2}, {"padding": 1}, {"dilation": 2}, {"groups": 2}, {"groups": 4}, {"padding": "same"},
    {"padding": "same", "dilation": 3, "padding_mode": "circular"}, {"padding": 2, "padding_mode": "reflect"},
    {"stride": 3, "padding": 2, "dilation": 2, "groups": 2},
]  # fmt: skip


def conv_of(axes: int, options: dict[str, object]) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    kernel = (3, 2, 4)[:axes]
    conv = KINDS[axes](4, 8, kernel, bias=False, **options).double()
    return conv, torch.randn(3, 4, *(9, 8, 7)[:axes]).double()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("axes", "options"), [*product(KINDS, OPTIONS)])
def test_a_convolution_is_the_linear_layer_of_its_patches(axes: int, options: dict[str, object]):
    conv, x = conv_of(axes, options)
    rows = torch.cat([*input_rows(conv, x)], dim=1)
    weight = conv.weight.detach().reshape(conv.groups, -1, rows.shape[2])
    expected = conv(x).detach()
    found = (rows @ weight.mT).unflatten(1, (len(x), -1)).permute(1, 0, 3, 2).reshape(expected.shape)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_an_input_without_a_batch_is_one_sample():
    conv, x = conv_of(2, {"padding": 1})
    assert torch.equal(next(input_rows(conv, x[0])), next(input_rows(conv, x[:1])))


def test_an_input_of_no_samples_has_no_rows():
    conv, x = conv_of(2, {"padding": 1})
    products = InputProducts(conv)
    products(x[:0])
    assert products.rows == 0


def test_large_inputs_are_worked_through_some_samples_at_a_time(monkeypatch: pytest.MonkeyPatch):
    conv, x = conv_of(2, {})
    (whole,) = input_rows(conv, x)
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", x[0].numel())
    pieces = [*input_rows(conv, x)]
    assert len(pieces) == 3
    assert torch.equal(torch.cat(pieces, dim=1), whole)


def test_the_products_are_those_of_all_rows_at_once():
    layer = nn.Linear(6, 4)
    inputs = [torch.randn(3, 5, 6), torch.randn(2, 6), torch.randn(6), torch.zeros(0, 6)]
    products = InputProducts(layer)
    for x in inputs:
        products(x)
    rows = torch.cat([x.reshape(-1, 6) for x in inputs]).double()
    assert products.rows == 18
    torch.testing.assert_close(products.hessian.double()[0], 2 * rows.T @ rows, rtol=1e-5, atol=1e-5)


def test_each_group_of_a_convolution_has_products_of_its_own():
    conv, x = conv_of(1, {"groups": 2})
    products = InputProducts(conv)
    products(x)
    alone = InputProducts(nn.Conv1d(2, 4, 3))
    alone(x[:, 2:])
    assert products.hessian.shape == (2, 6, 6)
    torch.testing.assert_close(products.hessian[1], alone.hessian[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_inputs_of_other_float_dtypes_are_taken(dtype: torch.dtype):
    x, products = torch.randn(5, 3).to(dtype), InputProducts(nn.Linear(3, 2))
    products(x)
    torch.testing.assert_close(products.hessian[0], 2 * x.float().T @ x.float())


def test_reading_before_any_data_is_refused():
    with pytest.raises(RuntimeError, match="no input"):
        _ = InputProducts(nn.Linear(3, 2)).hessian
