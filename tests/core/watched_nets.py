"""A convolution and a BatchNorm between which anything can be made to happen, and a recorder that watches it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mono_quant.core.dataflow import DataFlowRecorder

Body = Callable[["Net", Tensor], object]


class Net(nn.Module):
    """``body(net, x)`` is its forward."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.body = body
        self.eval()

    def forward(self, x: Tensor) -> object:
        return self.body(self, x)


def images(count: int = 2) -> list[Tensor]:
    return [torch.randn(2, 3, 5, 5) for _ in range(count)]


def watch(model: nn.Module, batches: Sequence[Tensor]) -> DataFlowRecorder:
    """Watch all leaf modules of a model while it runs, as calibration does."""
    names = [name for name, module in model.named_modules() if next(module.children(), None) is None]
    recorder = DataFlowRecorder(model, names)
    with torch.no_grad():
        for batch in batches:
            with recorder.batch():
                output = model(batch)
            del output
    return recorder


def watched(body: Body) -> str | None:
    """The one consumer of the convolution's output in a net with this body."""
    return watch(Net(body), images()).only_consumer("conv")
