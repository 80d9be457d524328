"""Parameters that are read outside the layer that owns them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from watched_nets import Net, images, watch


class Reader(nn.Module):
    """A leaf that reads a layer which it does not own."""

    def __init__(self, layer: nn.Module, read: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = [layer]
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.layer[0], x)


class TwoLayers(nn.Module):
    def __init__(self, read: Callable[[nn.Module, Tensor], object]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        self.read(self.first, y)
        return y


def outside_reads(model: nn.Module) -> dict[str, str]:
    return watch(model, [torch.randn(3, 4)]).outside_reads


@pytest.mark.parametrize(
    ("read", "function"),
    [
        (lambda layer, y: functional.linear(y, layer.weight), "linear"),
        (lambda layer, y: y @ layer.weight.t(), "t"),
        (lambda layer, _: layer.weight.data, "data"),
        (lambda layer, _: layer.weight.square().sum(), "square"),
        (lambda layer, _: torch.cat([*layer.parameters()][:1]), "cat"),
        (lambda layer, _: layer.bias.max().item(), "max"),
        (lambda layer, _: [value.numpy() for value in layer.state_dict().values()], "detach"),
        (lambda layer, y: functional.linear(input=y, weight=layer.weight), "linear"),
    ],
)
def test_a_parameter_that_a_function_reads_outside_its_layer_is_noted(
    read: Callable[[nn.Module, Tensor], object], function: str
):
    assert outside_reads(TwoLayers(read)) == {"first": function}


@pytest.mark.parametrize(
    ("read", "function"),
    [
        (lambda layer, y: y.to(layer.weight.dtype), "dtype"),
        (lambda layer, _: layer.weight.is_floating_point(), "is_floating_point"),
        (lambda layer, _: torch.is_floating_point(layer.weight), "is_floating_point"),
        (lambda layer, _: layer.weight.element_size(), "element_size"),
        (lambda layer, _: layer.weight.nbytes, "nbytes"),
        (lambda layer, y: y.type_as(layer.weight), "type_as"),
    ],
)
def test_reading_the_precision_of_a_weight_is_noted_since_it_will_change(
    read: Callable[[nn.Module, Tensor], object], function: str
):
    assert outside_reads(TwoLayers(read)) == {"first": function}


@pytest.mark.parametrize(
    "read",
    [
        lambda layer, y: y.to(next(layer.parameters()).dtype),
        lambda layer, _: [p.dtype for p in layer.parameters() if p.is_floating_point()],
        lambda layer, _: sum(p.nbytes for _, p in layer.named_parameters()),
        lambda layer, y: layer(y).to(next(layer.parameters()).dtype),
    ],
)
def test_the_precision_of_parameters_in_a_list_is_not_noted_since_quantized_layers_list_float32_scales(
    read: Callable[[nn.Module, Tensor], object],
):
    assert outside_reads(TwoLayers(read)) == {}


@pytest.mark.parametrize(
    "read",
    [
        lambda layer, y: (list(layer.parameters()), y.to(layer.weight.dtype)),
        lambda layer, y: y.to(next(layer.parameters()).mean().dtype),
        lambda layer, y: (next(layer.parameters()).dtype, functional.linear(y, layer.weight)),
    ],
)
def test_a_list_does_not_excuse_what_else_is_read(read: Callable[[nn.Module, Tensor], object]):
    assert set(outside_reads(TwoLayers(read))) == {"first"}


def test_the_precision_of_listed_parameters_that_are_not_float32_is_noted():
    model = TwoLayers(lambda layer, _: next(layer.parameters()).dtype).double()
    assert watch(model, [torch.randn(3, 4, dtype=torch.float64)]).outside_reads == {"first": "dtype"}


def test_a_parameter_that_a_forward_replaces_is_replaced_after_the_pass_too():
    def replace(layer: nn.Module, _: Tensor) -> None:
        layer.bias = nn.Parameter(torch.ones(4))

    model = TwoLayers(replace)
    watch(model, [torch.randn(3, 4)])
    assert bool((model.first.bias == 1).all())
    assert type(model.first._parameters) is dict


@pytest.mark.parametrize(
    "read",
    [
        lambda layer, y: y.to(layer.weight.device),
        lambda layer, _: layer.weight.shape[0] + layer.bias.numel() + layer.weight.dim(),
        lambda layer, _: layer.in_features,
        lambda layer, y: layer(y),
    ],
)
def test_reading_what_stays_the_same_is_not_noted(read: Callable[[nn.Module, Tensor], object]):
    assert outside_reads(TwoLayers(read)) == {}


def test_a_read_by_another_running_module_is_noted():
    model = TwoLayers(lambda _, y: y)
    model.reader = Reader(model.first, lambda layer, x: functional.linear(x, layer.weight))
    model.read = lambda _, y: model.reader(y)

    assert outside_reads(model) == {"first": "linear"}


def test_every_owner_of_a_tied_weight_is_noted():
    model = TwoLayers(lambda layer, y: functional.linear(y, layer.weight))
    model.second.weight = model.first.weight

    assert outside_reads(model) == {"first": "linear", "second": "linear"}


def test_a_tied_weight_that_its_owners_alone_read_is_not_noted():
    model = TwoLayers(lambda _, y: y)
    model.second.weight = model.first.weight

    assert outside_reads(model) == {}


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"])
def test_a_batch_norm_whose_tensors_are_read_elsewhere_is_nobodys_only_consumer(name: str):
    def body(net: Net, x: Tensor) -> Tensor:
        return net.bn(net.conv(x)) * getattr(net.bn, name).abs().sum()

    recorder = watch(Net(body), images())
    assert recorder.outside_reads == {"bn": "abs"}
    assert recorder.only_consumer("conv") is None
