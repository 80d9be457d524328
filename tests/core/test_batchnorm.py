"""Folding a BatchNorm into the layer before it, against both computed in float64."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mono_quant import Quantizer
from mono_quant.core.batchnorm import fold

ROUNDING = {torch.float32: 2**-24, torch.half: 2**-11, torch.bfloat16: 2**-8, torch.float64: 2**-53}
Make = Callable[..., nn.Module]
PAIRS: dict[str, tuple[Make, Make, tuple[int, ...]]] = {
    "linear": (lambda **options: nn.Linear(6, 9, **options), nn.BatchNorm1d, (5, 6)),
    "conv1d": (lambda **options: nn.Conv1d(6, 9, 3, padding=1, **options), nn.BatchNorm1d, (5, 6, 7)),
    "conv2d": (lambda **options: nn.Conv2d(6, 9, 3, groups=3, **options), nn.BatchNorm2d, (5, 6, 7, 7)),
    "conv3d": (lambda **options: nn.Conv3d(6, 9, 2, stride=2, **options), nn.BatchNorm3d, (5, 6, 4, 4, 4)),
}
EVERY_PAIR = pytest.mark.parametrize(("make", "make_norm", "shape"), PAIRS.values(), ids=PAIRS)


def trained(norm: nn.Module) -> nn.Module:
    """With statistics and weights of either sign, one channel that hardly varied and one that is switched off."""
    norm.running_mean.normal_(std=3)
    norm.running_var.uniform_(0.01, 9)
    norm.running_var[2] = 0
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.weight.data[1] = 0
    return norm.eval()


def assert_folded(folded: nn.Module, layer: nn.Module, norm: nn.Module, x: Tensor) -> None:
    """Each folded number is rounded once, to the dtype of the layer."""
    exact = copy.deepcopy(norm).double()(copy.deepcopy(layer).double()(x.double()))
    folded = copy.deepcopy(folded).double()
    actual = folded(x.double())
    for parameter in folded.parameters():
        parameter.abs_()
    bound = 1.01 * ROUNDING[layer.weight.dtype] * folded(x.double().abs())
    assert bool(((actual - exact).abs() <= bound + 1e-12).all())


@EVERY_PAIR
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@torch.no_grad()
def test_the_folded_layer_does_the_work_of_both(
    make: Make,
    make_norm: Make,
    shape: tuple[int, ...],
    *,
    bias: bool,
    affine: bool,
):
    torch.manual_seed(0)
    layer, norm = make(bias=bias), trained(make_norm(9, affine=affine))
    assert_folded(fold(layer, norm), layer, norm, torch.randn(shape))


@EVERY_PAIR
@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float64], ids=str)
@torch.no_grad()
def test_it_is_computed_in_float64_and_has_the_dtype_of_the_layer(
    make: Make, make_norm: Make, shape: tuple[int, ...], dtype: torch.dtype
):
    torch.manual_seed(0)
    layer, norm = make().to(dtype), trained(make_norm(9))
    folded = fold(layer, norm)
    assert {parameter.dtype for parameter in folded.parameters()} == {dtype}
    assert_folded(folded, layer, norm, torch.randn(shape))


@pytest.mark.parametrize("eps", [0.1, 1e-12])
@torch.no_grad()
def test_eps_is_that_of_the_batchnorm(eps: float):
    torch.manual_seed(0)
    layer, norm = nn.Linear(6, 9), trained(nn.BatchNorm1d(9, eps=eps))
    assert_folded(fold(layer, norm), layer, norm, torch.randn(5, 6))


def test_both_layers_stay_as_they_were():
    layer, norm = nn.Conv1d(6, 9, 3, bias=False), trained(nn.BatchNorm1d(9))
    before = copy.deepcopy((layer.state_dict(), norm.state_dict()))
    folded = fold(layer, norm)
    assert layer.bias is None
    assert folded.bias is not None
    for module, state in zip((layer, norm), before, strict=True):
        assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in state.items())


def folded_layers(model: nn.Module, *shape: int) -> dict[str, Any]:
    data = [torch.randn(shape) for _ in range(3)]
    quantizer = Quantizer("int8-static", validators=(), show_progress=False)
    return dict(quantizer.quantize(model.eval(), data).info.folded_layers)


@EVERY_PAIR
def test_a_pair_is_folded_in_a_model(make: Make, make_norm: Make, shape: tuple[int, ...]):
    assert folded_layers(nn.Sequential(make(), trained(make_norm(9))), *shape) == {"1": "0"}


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9)), (4, 9, 6)),
        (nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(5)), (4, 5, 6)),
        (nn.Sequential(nn.Conv1d(6, 9, 1), nn.BatchNorm1d(9)), (6, 9)),
    ],
    ids=["sequence", "another-length", "unbatched"],
)
def test_a_batchnorm_over_another_axis_than_the_rows_is_not_folded(model: nn.Module, shape: tuple[int, ...]):
    assert folded_layers(model, *shape) == {}


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(9, track_running_stats=False),
        nn.InstanceNorm1d(9, track_running_stats=True),
        nn.SyncBatchNorm(9),
        type("OwnNorm", (nn.BatchNorm1d,), {})(9),
    ],
)
def test_a_norm_that_is_another_function_is_not_folded(norm: nn.Module):
    assert folded_layers(nn.Sequential(nn.Conv1d(6, 9, 1), norm), 4, 6, 7) == {}


def test_a_norm_whose_forward_was_replaced_is_not_folded():
    norm = nn.BatchNorm1d(9)
    norm.forward = lambda x: x * 3  # type: ignore[method-assign]
    assert folded_layers(nn.Sequential(nn.Conv1d(6, 9, 1), norm), 4, 6, 7) == {}
