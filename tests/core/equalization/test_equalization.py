"""What equalization does to models, and what it leaves alone."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mono_quant import QuantizationResult, Quantizer
from mono_quant.core.sqnr import sqnr_db

PER_TENSOR = {"name": "int8-weight-only", "granularity": "per-tensor"}
NAME = "cross-layer-equalization"


def uneven(layer: nn.Module) -> nn.Module:
    """Output channels whose ranges differ a thousandfold."""
    with torch.no_grad():
        factor = torch.logspace(-1.5, 1.5, layer.weight.shape[0])[torch.randperm(layer.weight.shape[0])]
        layer.weight.mul_(factor.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.mul_(factor)
    return layer


def undoing(layer: nn.Module, before: nn.Module) -> nn.Module:
    """A layer that reads uneven channels as if they were even."""
    with torch.no_grad():
        ranges = before.weight.abs().flatten(1).amax(dim=1)
        if layer.weight.shape[1] == 1 and layer.groups > 1:
            layer.weight.div_(ranges.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        else:
            layer.weight.div_(ranges.reshape(1, -1, *[1] * (layer.weight.ndim - 2)))
    return layer


def linear(*between: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    first = uneven(nn.Linear(12, 16))
    return nn.Sequential(first, *between, undoing(nn.Linear(16, 6), first)).eval()


def conv(*between: nn.Module, pools: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    first = uneven(nn.Conv2d(3, 8, 3, padding=1))
    last = undoing(nn.Conv2d(8, 5, 3, padding=1), first)
    return nn.Sequential(first, *between, *([nn.MaxPool2d(2)] if pools else []), last).eval()


def rows() -> list[Tensor]:
    return [torch.rand(16, 12, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]


def pictures() -> list[Tensor]:
    return [torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]


def quantized(net: nn.Module, data: Sequence[Tensor], scheme: Any = PER_TENSOR) -> QuantizationResult:  # noqa: ANN401
    return Quantizer(scheme, algorithms=["bn-fold", NAME], show_progress=False, validators=()).quantize(net, data)


def plain(net: nn.Module, data: Sequence[Tensor], scheme: Any = PER_TENSOR) -> QuantizationResult:  # noqa: ANN401
    return Quantizer(scheme, show_progress=False, validators=()).quantize(net, data)


def chains(result: QuantizationResult) -> list[tuple[str, ...]]:
    return [rewrite.layers for rewrite in result.plan.rewrites if rewrite.algorithm == NAME]


def output_db(net: nn.Module, result: QuantizationResult, x: Tensor) -> float:
    with torch.no_grad():
        return sqnr_db(net(x), result.model(x))


@pytest.mark.parametrize(
    "between", [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.PReLU(), nn.Identity(), nn.Dropout(0.5)]
)
@pytest.mark.parametrize("make", [linear, conv])
@pytest.mark.parametrize("scheme", [PER_TENSOR, "int8-static"], ids=["per tensor", "static"])
def test_uneven_channels_cost_less(make: Callable[..., nn.Sequential], between: nn.Module, scheme: Any):  # noqa: ANN401
    net, data = make(between), rows() if make is linear else pictures()
    x = torch.cat(data) * 0.9
    result = quantized(net, data, scheme)
    assert len(chains(result)) == 1
    gain = 10 if scheme == PER_TENSOR else 3
    assert output_db(net, result, x) > output_db(net, plain(net, data, scheme), x) + gain


@pytest.mark.parametrize("between", [nn.ReLU6(), nn.Hardtanh(0, 6), nn.GELU(), nn.Sigmoid(), nn.Softplus()])
@pytest.mark.parametrize("make", [linear, conv])
def test_what_is_not_homogeneous_ends_a_chain(make: Callable[..., nn.Sequential], between: nn.Module):
    assert chains(quantized(make(between), rows() if make is linear else pictures())) == []


def test_a_depthwise_convolution_is_a_link_between_two():
    torch.manual_seed(0)
    first = uneven(nn.Conv2d(3, 8, 1))
    depthwise = undoing(nn.Conv2d(8, 8, 3, groups=8, padding=1), first)
    net = nn.Sequential(first, nn.ReLU(), uneven(depthwise), nn.ReLU(), nn.Conv2d(8, 5, 1)).eval()
    result, x = quantized(net, pictures()), torch.cat(pictures())
    assert chains(result) == [("0", "2", "4")]
    assert output_db(net, result, x) > output_db(net, plain(net, pictures()), x) + 10


def test_it_goes_on_where_a_batch_norm_was_folded():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    with torch.no_grad():
        norm.weight.copy_(torch.logspace(-1.5, 1.5, 8))
        norm.bias.copy_(norm.weight * 0.1)
    last = nn.Conv2d(8, 5, 3)
    with torch.no_grad():
        last.weight.div_(norm.weight.reshape(1, -1, 1, 1))
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), norm, nn.ReLU(), last).eval()
    result, x = quantized(net, pictures()), torch.cat(pictures())
    assert chains(result) == [("0", "3")]
    assert output_db(net, result, x) > output_db(net, plain(net, pictures()), x) + 10


def test_even_channels_are_left_alone():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6)).eval()
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight.copy_(torch.randn_like(layer.weight).sign() / 4)
    result = quantized(net, rows())
    assert chains(result) == []
    assert torch.equal(result.model[0].weight, plain(net, rows()).model[0].weight)


class Functional(nn.Module):
    def __init__(self, *, residual: bool) -> None:
        super().__init__()
        self.first, _, self.last = linear(nn.ReLU())
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = self.last(torch.relu(y))
        return z + y[:, :6] if self.residual else z


@pytest.mark.parametrize(("residual", "expected"), [(False, [("first", "last")]), (True, [])])
def test_functional_relu_is_followed_and_a_residual_read_ends_it(residual: bool, expected: object):  # noqa: FBT001
    assert chains(quantized(Functional(residual=residual).eval(), rows())) == expected


def test_layers_that_share_a_weight_run_twice_or_are_watched_are_left_alone():
    tied = nn.Sequential(*linear(nn.ReLU()), nn.ReLU(), nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 16))
    tied[6].weight = tied[0].weight
    assert not any("0" in chain for chain in chains(quantized(tied.eval(), rows())))

    torch.manual_seed(0)
    square = uneven(nn.Linear(12, 12))
    twice = nn.Sequential(square, nn.ReLU(), square, nn.ReLU(), nn.Linear(12, 4)).eval()
    assert chains(quantized(twice, rows())) == []

    hooked = linear(nn.ReLU())
    hooked[0].register_forward_hook(lambda *_: None)
    assert chains(quantized(hooked, rows())) == []


def test_one_relu_used_between_several_layers_is_no_obstacle():
    torch.manual_seed(0)
    relu, first, second = nn.ReLU(inplace=True), uneven(nn.Linear(12, 16)), nn.Linear(16, 16)
    net = nn.Sequential(first, relu, undoing(second, first), relu, nn.Linear(16, 4)).eval()
    assert chains(quantized(net, rows())) == [("0", "2", "4")]


def test_a_layer_that_stays_in_float_ends_a_chain():
    net = linear(nn.ReLU())
    options: dict[str, Any] = {"algorithms": [NAME], "show_progress": False, "validators": (), "exclude": ["2"]}
    assert chains(Quantizer(PER_TENSOR, **options).quantize(net, rows())) == []


def test_the_float_model_is_left_as_it_was():
    net = conv(nn.ReLU())
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert chains(quantized(net, pictures()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_it_works_with_smoothing_and_bias_correction_around_it():
    net = linear(nn.ReLU())
    names = ["bn-fold", NAME, "smoothquant", "bias-correction"]
    result = Quantizer(algorithms=names, show_progress=False).quantize(net, rows())
    assert output_db(net, result, torch.cat(rows())) > output_db(
        net, plain(net, rows(), "int8-static"), torch.cat(rows())
    )
