"""Which module alone receives another one's output, as watched."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from watched_nets import Net, images, watch, watched

REFERENCES: list[object] = []


@dataclasses.dataclass
class Answer:
    y: Tensor


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, y: Tensor) -> Tensor:
        del ctx
        return y * 2


class Itself(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, y: Tensor) -> Tensor:
        del ctx
        return y


def test_a_batch_norm_that_alone_follows_a_convolution_is_its_only_consumer():
    assert watched(lambda net, x: net.bn(net.conv(x))) == "bn"


def test_an_input_passed_by_keyword_is_seen():
    assert watched(lambda net, x: net.bn(input=net.conv(x))) == "bn"


@pytest.mark.parametrize(
    "look",
    [
        lambda y: (y.shape, y.size(), y.size(0), len(y), y.numel(), y.stride(), y.storage_offset()),
        lambda y: (y.dtype, y.device, y.layout, y.is_cuda, y.requires_grad, y.is_floating_point(), y.element_size()),
        lambda y: (y.dim(), y.ndim, y.is_contiguous(), torch.is_tensor(y), isinstance(y, Tensor), torch.numel(y)),
        lambda y: f"{tuple(y.shape)} on {y.device}",
    ],
)
def test_looking_at_the_shape_of_an_output_is_not_consuming_it(look: Callable[[Tensor], object]):
    def body(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        look(y)
        return net.bn(y)

    assert watched(body) == "bn"


OTHER_USES: dict[str, Callable[[Tensor], object]] = {
    "residual addition": lambda y: 1 + y,
    "in-place addition": lambda y: y.add_(1),
    "in-place activation": functional.relu_,
    "item assignment": lambda y: y.__setitem__(0, 0.0),
    "view": lambda y: y.view(-1),
    "slice": lambda y: y[0],
    "transposition": lambda y: y.mT,
    "iteration": list,
    "unpacking": lambda y: torch.stack([*y]),
    "cat": lambda y: torch.cat([y, y]),
    "nested argument": lambda y: torch.block_diag(*[row[0, 0][None] for row in y]),
    "keyword argument": lambda y: torch.clamp(input=y, min=0),
    "out argument": lambda y: torch.mul(torch.ones(2, 4, 5, 5), 2, out=y),
    "detached alias": lambda y: y.detach(),
    "data": lambda y: y.data,
    "storage": lambda y: y.untyped_storage(),
    "numpy": lambda y: y.numpy(),
    "asarray": np.asarray,
    "dlpack": np.from_dlpack,
    "list": lambda y: y.tolist(),
    "condition": lambda y: bool(y.max() > 0),
    "aten": lambda y: torch.ops.aten.mul(y, 2),
    "autograd function": Doubled.apply,
    "identity autograd function": Itself.apply,
    "kept in a list": REFERENCES.append,
}


@pytest.mark.parametrize("use", OTHER_USES.values(), ids=OTHER_USES.keys())
@pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
def test_another_use_of_the_output_leaves_no_only_consumer(use: Callable[[Tensor], object], is_first: bool):  # noqa: FBT001
    def body(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        if is_first:
            use(y)
        z = net.bn(y)
        if not is_first:
            use(y)
        return z

    assert watched(body) is None
    REFERENCES.clear()


@pytest.mark.parametrize(
    "answer",
    [lambda z, y: (z, y), lambda z, y: {"z": z, "features": [y]}, lambda z, y: (z, Answer(y)), lambda _, y: y],
    ids=["tuple", "nested", "dataclass", "alone"],
)
def test_an_output_that_leaves_the_model_has_no_only_consumer(answer: Callable[[Tensor, Tensor], object]):
    def body(net: Net, x: Tensor) -> object:
        y = net.conv(x)
        return answer(net.bn(y), y)

    assert watched(body) is None


def test_an_output_kept_in_an_attribute_has_no_only_consumer():
    def body(net: Net, x: Tensor) -> Tensor:
        net.features = net.conv(x)
        return net.bn(net.features)

    assert watched(body) is None


def test_a_view_between_the_two_is_not_the_output_itself():
    assert watched(lambda net, x: net.bn(net.conv(x).relu())) is None


def test_a_module_that_runs_twice_has_no_only_consumer():
    assert watched(lambda net, x: net.bn(net.conv(x)) + net.conv(x + 1)) is None


def test_a_consumer_that_runs_twice_is_not_alone():
    assert watched(lambda net, x: net.bn(net.bn(net.conv(x)))) is None


def test_the_same_output_given_twice_to_one_module_is_not_received_alone():
    net = Net(lambda net, x: net.both(*[net.flat(net.conv(x))] * 2))
    net.flat, net.both = nn.Flatten(), nn.Bilinear(100, 100, 3)

    assert watch(net, images()).only_consumer("flat") is None


def test_flow_that_differs_between_batches_proves_nothing():
    low, high = torch.zeros(2, 3, 5, 5), torch.ones(2, 3, 5, 5)

    def body(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        return net.bn(y) if x.max() > 0 else y.relu()

    for batches in ([high, low, high], [low, high], [high, low]):
        assert watch(Net(body), batches).only_consumer("conv") is None
    assert watch(Net(body), [high, high]).only_consumer("conv") == "bn"


def test_a_leaf_that_hides_other_modules_is_seen_to_use_their_outputs():
    class Hiding(nn.Module):
        def __init__(self, *modules: nn.Module) -> None:
            super().__init__()
            self.hidden = list(modules)

        def forward(self, x: Tensor) -> Tensor:
            y = self.hidden[0](x)
            return self.hidden[1](y) + y

    net = Net(lambda net, x: net.hiding(x))
    net.hiding = Hiding(net.conv, net.bn)

    assert watch(net, images()).only_consumer("conv") is None


def test_a_leaf_that_returns_the_output_of_a_hidden_module_uses_it():
    class Returning(nn.Module):
        def __init__(self, *modules: nn.Module) -> None:
            super().__init__()
            self.hidden = list(modules)

        def forward(self, x: Tensor) -> Tensor:
            y = self.hidden[0](x)
            self.hidden[1](y)
            return y

    net = Net(lambda net, x: net.returning(x))
    net.returning = Returning(net.conv, net.bn)

    assert watch(net, images()).only_consumer("conv") is None


def test_a_model_that_never_ran_proves_nothing():
    assert watch(Net(lambda net, x: net.bn(net.conv(x))), []).only_consumer("conv") is None


def test_the_axes_of_an_output_are_counted():
    net = Net(lambda net, x: net.conv(x))
    assert watch(net, images()).output_ndim("conv") == 4
    assert watch(net, [torch.randn(3, 5, 5)]).output_ndim("conv") == 3
    assert watch(net, [torch.randn(3, 5, 5), *images()]).output_ndim("conv") is None
