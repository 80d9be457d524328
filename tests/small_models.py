"""Small models and data for tests of the whole pipeline."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mono_quant import QuantizationResult, Quantizer
from mono_quant.modules import QuantizedModule

FEATURES = 8


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, FEATURES))


class ConvNet(nn.Module):
    """Convolution, BatchNorm with statistics of its own, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.bn = norm(nn.BatchNorm2d(6))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bn(self.conv(x)).relu().mean((2, 3)))


class Tied(nn.Module):
    """Two Linears with one weight, and an Embedding that shares its own with the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, FEATURES)
        self.up = nn.Linear(FEATURES, FEATURES)
        self.down = nn.Linear(FEATURES, FEATURES)
        self.down.weight = self.up.weight
        self.head = nn.Linear(FEATURES, 16, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.down(self.up(self.table(tokens)).relu()))


def norm(module: nn.Module) -> nn.Module:
    """A BatchNorm that has seen data."""
    module.running_mean.normal_()
    module.running_var.uniform_(0.5, 2)
    nn.init.uniform_(module.weight, 0.5, 2)
    nn.init.normal_(module.bias)
    return module


def rows(count: int = 3) -> list[Tensor]:
    return [torch.randn(6, FEATURES) for _ in range(count)]


def images(count: int = 3) -> list[Tensor]:
    return [torch.randn(4, 3, 8, 8) for _ in range(count)]


def tokens(count: int = 3) -> list[Tensor]:
    return [torch.randint(0, 16, (4, 5)) for _ in range(count)]


def quantize(model: nn.Module, data: Iterable[Any] | None, **options: object) -> QuantizationResult:
    inplace = options.pop("inplace", False)
    return Quantizer(show_progress=False, **options).quantize(model, data, inplace=inplace)


def quantized_names(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, QuantizedModule)]


def sqnr(expected: Tensor, actual: Tensor) -> float:
    """In dB, in float64. Rounding to 8 bits of a few layers leaves over 25; a layer mixed up leaves about 0."""
    noise = (expected.double() - actual.double()).square().sum().item()
    return 10 * math.log10(expected.double().square().sum().item() / noise) if noise else math.inf


def run(model: nn.Module, *args: object, **kwargs: object):
    """The output in eval mode, on copies of the tensors."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        output = model(*args, **kwargs)
    for module, mode in modes.items():
        module.training = mode
    return output
