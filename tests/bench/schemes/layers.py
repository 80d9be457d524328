"""The layers of the table, with numbers that come out the same on every machine."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import attrs
import torch
from torch import Tensor, nn

__all__ = ["LAYERS", "MIXED", "LayerCase", "Layers", "Net"]

_LOW, _HIGH, _UNIT = -1000, 997, 500
"""Inputs are multiples of 1 / 500. The range is a prime number of them: none lies half-way between two codes of it."""
_WEIGHT_UNIT = 4000


@attrs.frozen
class LayerCase:
    """A layer and an input.

    Args:
        name: of the layer in its model.
        title: how the page calls it.
        build: makes the layer.
        inputs: makes its arguments.
        channel_axis: of its weights.
    """

    name: str
    title: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    channel_axis: int = 0

    def layer(self) -> nn.Module:
        """The layer, anew each time, with weights that are not centred on zero."""
        return copy.deepcopy(_made(self))


class Layers(nn.Module):
    """A model of some of them, side by side."""

    def __init__(self, *cases: LayerCase) -> None:
        super().__init__()
        for case in cases:
            self.add_module(case.name, case.layer())

    def forward(self, **inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        return {name: self.get_submodule(name)(*arguments) for name, arguments in inputs.items()}


class Net(nn.Module):
    """A model whose parts a mixed scheme stores in different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 128)
        self.encoder = nn.TransformerEncoderLayer(128, 4, dim_feedforward=192, batch_first=True)
        self.head = nn.Linear(128, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.embedding(tokens)))
        return logits


@cache
def _made(case: LayerCase) -> nn.Module:
    layer = case.build().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        numbers = torch.randint(-400, 600, parameter.shape, generator=generator)
        parameter.detach().copy_(numbers / _WEIGHT_UNIT)
    return layer.requires_grad_(requires_grad=False)


def _numbers(*shape: int) -> tuple[Tensor, ...]:
    codes = torch.randint(_LOW, _HIGH + 1, shape, generator=torch.Generator().manual_seed(2))
    codes.view(-1)[0], codes.view(-1)[-1] = _LOW, _HIGH
    return (codes / _UNIT,)


def _tokens(*shape: int) -> tuple[Tensor, ...]:
    return (torch.randint(0, 60, shape, generator=torch.Generator().manual_seed(2)),)


def _case(
    kind: type[nn.Module], *sizes: int, on: Callable[[], tuple[Tensor, ...]], axis: int = 0, **options: object
) -> LayerCase:
    arguments = [*map(str, sizes), *(f"{name}={value}" for name, value in options.items())]
    name = "_".join([kind.__name__.lower(), *map(str, sizes)])
    return LayerCase(name, f"{kind.__name__}({', '.join(arguments)})", lambda: kind(*sizes, **options), on, axis)


def _linear_and_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(128, 48), nn.BatchNorm1d(48))


LAYERS = (
    _case(nn.Linear, 384, 64, on=lambda: _numbers(5, 384)),
    _case(nn.Linear, 320, 33, bias=False, on=lambda: _numbers(2, 3, 320)),
    _case(nn.Bilinear, 16, 24, 20, on=lambda: (*_numbers(5, 16), *_numbers(5, 24))),
    _case(nn.Conv1d, 64, 40, 4, on=lambda: _numbers(2, 64, 9)),
    _case(nn.Conv1d, 24, 24, 3, groups=24, on=lambda: _numbers(2, 24, 9)),
    _case(nn.Conv2d, 32, 40, 3, padding=1, on=lambda: _numbers(2, 32, 6, 7)),
    _case(nn.Conv2d, 24, 48, 5, groups=24, bias=False, on=lambda: _numbers(2, 24, 7, 6)),
    _case(nn.Conv3d, 16, 24, 2, stride=2, on=lambda: _numbers(1, 16, 4, 5, 6)),
    _case(nn.Conv3d, 12, 12, 3, groups=12, on=lambda: _numbers(1, 12, 4, 5, 4)),
    _case(nn.ConvTranspose1d, 64, 40, 4, on=lambda: _numbers(2, 64, 5), axis=1),
    _case(nn.ConvTranspose2d, 32, 24, 3, stride=2, groups=2, on=lambda: _numbers(2, 32, 4, 3), axis=1),
    _case(nn.ConvTranspose3d, 16, 12, 2, bias=False, on=lambda: _numbers(1, 16, 3, 2, 3), axis=1),
    _case(nn.Embedding, 60, 128, padding_idx=3, on=lambda: _tokens(3, 7)),
    _case(nn.EmbeddingBag, 60, 48, on=lambda: _tokens(3, 7)),
    _case(nn.LSTM, 128, 128, on=lambda: _numbers(4, 2, 128)),
    _case(
        nn.LSTM, 72, 32, num_layers=2, bidirectional=True, proj_size=24, bias=False, on=lambda: _numbers(4, 2, 72)
    ),
    _case(nn.GRU, 128, 32, num_layers=2, bidirectional=True, on=lambda: _numbers(4, 2, 128)),
    _case(nn.RNN, 128, 128, nonlinearity="relu", on=lambda: _numbers(4, 2, 128)),
    _case(nn.LSTMCell, 128, 32, on=lambda: _numbers(3, 128)),
    _case(nn.GRUCell, 72, 32, on=lambda: _numbers(3, 72)),
    _case(nn.RNNCell, 128, 128, on=lambda: _numbers(3, 128)),
    _case(nn.MultiheadAttention, 128, 4, on=lambda: _numbers(5, 2, 128) * 3),
    _case(
        nn.MultiheadAttention, 64, 4, kdim=48, vdim=128,
        on=lambda: (*_numbers(5, 2, 64), *_numbers(3, 2, 48), *_numbers(3, 2, 128)),
    ),
    _case(nn.TransformerEncoderLayer, 128, 4, dim_feedforward=192, batch_first=True, on=lambda: _numbers(2, 5, 128)),
    LayerCase("linear_and_norm", "Linear(128, 48), BatchNorm1d(48)", _linear_and_norm, lambda: _numbers(5, 128)),
    _case(nn.BatchNorm2d, 32, on=lambda: _numbers(2, 32, 4, 4)),
    _case(nn.LayerNorm, 128, on=lambda: _numbers(5, 128)),
)  # fmt: skip

MIXED = LayerCase("net", "Embedding, TransformerEncoderLayer, Linear", Net, lambda: _tokens(2, 5))
