"""What lies between two layers where channels can be multiplied before it as well as after."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from watched_nets import images, watch

from mono_quant.core.intervention import ProvenFlow


class Two(nn.Module):
    """``between(net, y)`` lies between a convolution and the next; ``after`` gets both ends."""

    def __init__(self, between: Callable[["Two", Tensor], Tensor], after: Callable[..., object] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.linear = nn.Linear(4, 2)
        self.prelu, self.norm = nn.PReLU(4), nn.BatchNorm2d(4)
        self.between, self.after = between, after
        self.eval()

    def forward(self, x: Tensor) -> object:
        y = self.first(x)
        z = self.second(self.between(self, y))
        return z if self.after is None else self.after(self, x, y, z)


def flow_of(net: nn.Module) -> ProvenFlow:
    torch.manual_seed(1)
    data = images()

    def replay() -> object:
        with torch.no_grad():
            return net(data[0])

    return ProvenFlow(net, watch(net, data), replay)


def in_place(_: nn.Module, y: Tensor) -> Tensor:
    y.relu_()
    return y


HOMOGENEOUS: dict[str, Callable[[Two, Tensor], Tensor]] = {
    "nothing": lambda _, y: y,
    "relu": lambda _, y: functional.relu(y),
    "torch.relu": lambda _, y: torch.relu(y),
    "method": lambda _, y: y.relu(),
    "module": lambda _, y: nn.ReLU()(y),
    "in place": lambda _, y: nn.ReLU(inplace=True)(y),
    "relu_": in_place,
    "leaky": lambda _, y: nn.LeakyReLU(0.1)(y),
    "leaky in place": lambda _, y: nn.LeakyReLU(0.1, inplace=True)(y),
    "max pool": lambda _, y: nn.MaxPool2d(2)(y.relu()),
    "average pool": lambda _, y: functional.avg_pool2d(y, 2, padding=1),
    "adaptive pools": lambda _, y: nn.AdaptiveMaxPool2d(1)(nn.AdaptiveAvgPool2d(2)(y)),
    "dropout": lambda _, y: nn.Dropout(0.5).eval()(y.relu()),
    "identity": lambda _, y: nn.Identity()(y),
}

OTHERS: dict[str, Callable[[Two, Tensor], Tensor]] = {
    "relu6": lambda _, y: nn.ReLU6()(y),
    "hardtanh": lambda _, y: functional.hardtanh(y, 0, 6),
    "clamp": lambda _, y: y.clamp(0, 6),
    "sigmoid": lambda _, y: y.sigmoid(),
    "gelu": lambda _, y: functional.gelu(y),
    "a constant": lambda _, y: y + 1,
    "residual": lambda _, y: y + y.relu(),
    "read before it changes": lambda _, y: y * 0 + y.relu_(),
    "softmax": lambda _, y: y.softmax(1),
    "mean of channels": lambda _, y: y.relu().mean(1, keepdim=True).expand(-1, 4, -1, -1),
}


@pytest.mark.parametrize("between", HOMOGENEOUS.values(), ids=HOMOGENEOUS.keys())
def test_homogeneous_functions_lead_to_the_follower(between: Callable[[Two, Tensor], Tensor]):
    assert flow_of(Two(between)).follower("first") == "second"


@pytest.mark.parametrize("between", OTHERS.values(), ids=OTHERS.keys())
def test_others_lead_nowhere(between: Callable[[Two, Tensor], Tensor]):
    assert flow_of(Two(between)).follower("first") is None


def test_a_prelu_and_a_batch_norm_are_steps_of_their_own():
    flow = flow_of(Two(lambda net, y: net.prelu(net.norm(y).relu())))
    assert [flow.follower(name) for name in ("first", "norm", "prelu")] == ["norm", "prelu", "second"]


def test_a_pooled_convolution_leads_to_a_linear_layer_of_as_many_features():
    def after(net: Two, _: Tensor, __: Tensor, z: Tensor) -> Tensor:
        return net.linear(functional.adaptive_avg_pool2d(z.relu(), 1).flatten(1))

    assert flow_of(Two(lambda _, y: y, after)).follower("second") == "linear"


def test_a_mean_over_places_leads_to_it_too_and_one_over_channels_does_not():
    assert (
        flow_of(Two(lambda _, y: y, lambda net, *ends: net.linear(ends[2].mean((2, 3))))).follower("second") == "linear"
    )

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 100, 1), nn.Linear(100, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x)[:, :, 0, 0])  # one place of each channel, by a function that is not followed

    assert flow_of(Flat().eval()).follower("conv") is None


def test_features_that_only_happen_to_be_as_many_as_channels_are_told_apart():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 25, 1), nn.Linear(25, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean(1).flatten(1))  # 5 x 5 places

    assert flow_of(Mixed().eval()).follower("conv") is None


def thread_read(_: Two, __: Tensor, y: Tensor, z: Tensor) -> Tensor:
    found: list[Tensor] = []
    thread = threading.Thread(target=lambda: found.append(y.sum()))
    thread.start()
    thread.join()
    return z + found[0]


READ_PAST: dict[str, Callable[..., object]] = {
    "residual": lambda _, __, y, z: z + y,
    "returned": lambda _, __, y, z: (z, y),
    "in a thread": thread_read,
    "run twice": lambda net, x, _, z: z + net.first(x),
    "follower run twice": lambda net, _, __, z: net.second(z),
    "weight read": lambda net, _, __, z: z + net.first.weight.sum(),
    "follower's weight read": lambda net, _, __, z: z + net.second.weight.sum(),
}


@pytest.mark.parametrize("after", READ_PAST.values(), ids=READ_PAST.keys())
def test_what_is_read_past_the_follower_leads_nowhere(after: Callable[..., object]):
    assert flow_of(Two(lambda _, y: y.relu(), after)).follower("first") is None


def test_paths_do_not_change_what_consumers_are():
    flow = flow_of(Two(lambda _, y: y.relu()))
    assert flow.consumers("first") == ()
    assert flow_of(Two(lambda _, y: y)).only_consumer("first") == "second"


def test_a_path_that_differs_between_batches_leads_nowhere():
    calls: list[int] = []

    def between(_: Two, y: Tensor) -> Tensor:
        calls.append(1)
        return y.relu() if len(calls) % 2 else y.sigmoid()

    assert flow_of(Two(between)).follower("first") is None
