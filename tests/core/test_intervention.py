"""Uses of a tensor that no torch function shows: found by running the model with that tensor replaced."""

import threading
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils import dlpack
from watched_nets import Body, Net, images, watch

from mono_quant.core.intervention import ProvenFlow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # scripting is deprecated, and people still have scripted functions

    @torch.jit.script
    def scripted(y: Tensor) -> Tensor:
        return y * 2


def in_a_thread(y: Tensor) -> Tensor:
    results: list[Tensor] = []
    thread = threading.Thread(target=lambda: results.append(y * 2))
    thread.start()
    thread.join()
    return results[0]


UNSEEN: dict[str, Callable[[Tensor], Tensor]] = {
    "scripted function": scripted,
    "vmap": torch.vmap(torch.sin),
    "thread": in_a_thread,
    "dlpack": lambda y: dlpack.from_dlpack(dlpack.to_dlpack(y)),
    "parameter": lambda y: nn.Parameter(y, requires_grad=False),
    "subclass": lambda y: y.as_subclass(Tensor),
}


def proven(body: Body) -> str | None:
    net = Net(body)
    batches = images()

    def replay() -> object:
        with torch.no_grad():
            return net(batches[0])

    return ProvenFlow(net, watch(net, batches), replay).only_consumer("conv")


def test_a_true_flow_is_proven():
    assert proven(lambda net, x: net.bn(net.conv(x))) == "bn"


@pytest.mark.parametrize("use", UNSEEN.values(), ids=UNSEEN.keys())
@pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
def test_a_use_that_cannot_be_watched_refutes_the_flow(use: Callable[[Tensor], Tensor], is_first: bool):  # noqa: FBT001
    def body(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        other = use(y).sum() if is_first else 0.0
        z = net.bn(y)
        return z + (other if is_first else use(y).sum())

    assert proven(body) is None


def test_a_use_whose_result_is_a_bit_of_the_output_refutes_the_flow():
    def body(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        y = net.conv(x)
        return net.bn(y), in_a_thread(y).isfinite().all()

    assert proven(body) is None


def test_a_model_that_cannot_bear_nan_refutes_the_flow():
    def body(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        if not in_a_thread(y).isfinite().all():
            message = "no finite features"
            raise ValueError(message)
        return net.bn(y)

    assert proven(body) is None


def test_a_model_without_comparable_output_proves_nothing():
    assert proven(lambda net, x: str(net.bn(net.conv(x)).shape)) is None


def test_one_false_flow_does_not_refute_the_others():
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(5))
            self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(5))

        def forward(self, x: Tensor) -> Tensor:
            for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
                y = conv(x)
                x = norm(y) + 1
                if number == 2:
                    x = x + scripted(y)
            return x

    model = Three().eval()
    batch = images()[0]
    recorder = watch(model, [batch])

    def replay() -> object:
        with torch.no_grad():
            return model(batch)

    flow = ProvenFlow(model, recorder, replay)
    assert recorder.only_consumer("convs.2") == "norms.2"
    assert [flow.only_consumer(f"convs.{i}") for i in range(5)] == ["norms.0", "norms.1", None, "norms.3", "norms.4"]


def test_an_output_that_cannot_be_replaced_by_nan_proves_nothing():
    class Rounding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.long()

    net = Net(lambda net, x: net.table(net.rounding(x.abs())))
    net.rounding, net.table = Rounding(), nn.Embedding(100, 2)
    batch = images()[0]
    recorder = watch(net, [batch])
    assert recorder.only_consumer("rounding") == "table"
    assert ProvenFlow(net, recorder, lambda: net(batch)).only_consumer("rounding") is None
