"""Every kind of layer that weight-only schemes quantize, with inputs.

Each must give the float layer's own output with the dequantized weights put in.
"""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from mono_quant import Quantizer
from mono_quant.core.encoding import decode
from mono_quant.core.tensors import iter_tensors, same_bits
from mono_quant.modules import QuantizedModule

__all__ = [
    "CASES",
    "EVERY_CASE",
    "EVERY_SCHEME",
    "NO_ONEDNN",
    "SCHEMES",
    "Case",
    "Holder",
    "assert_same",
    "quantized",
    "twin",
]

SCHEMES: dict[str, dict[str, Any]] = {
    "int8": {"name": "int8-weight-only"},
    "int4": {"name": "int4-weight-only", "group_size": 16, "misfit": "pad"},
    "float8": {"name": "float8-weight-only"},
    "float16": {"name": "float16"},
}
EVERY_SCHEME = pytest.mark.parametrize("scheme", SCHEMES)


class Holder(nn.Module):
    """A model of one layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return self.layer(*args, **kwargs)


@attrs.frozen
class Case:
    """A layer and calls of it."""

    make: Callable[[], nn.Module]
    calls: Callable[[], list[tuple[Any, ...]]]

    def model(self) -> Holder:
        return Holder(self.make()).eval()


def on(*shapes: tuple[int, ...]) -> Callable[[], list[tuple[Any, ...]]]:
    """Calls with one random tensor each."""
    return lambda: [(torch.randn(shape),) for shape in shapes]


def tokens(*shapes: tuple[int, ...], count: int = 9) -> Callable[[], list[tuple[Any, ...]]]:
    return lambda: [(torch.randint(0, count, shape),) for shape in shapes]


def sequences(features: int, *, hidden: Callable[[int], Any] | None = None) -> Callable[[], list[tuple[Any, ...]]]:
    """A batch, one sequence, and a packed batch, without and with initial states."""

    def calls() -> list[tuple[Any, ...]]:
        x = torch.randn(4, 3, features)
        packed = pack_padded_sequence(x, torch.tensor([4, 1, 3]), enforce_sorted=False)
        plain: list[tuple[Any, ...]] = [(x,), (x[:, 0],), (packed,)]
        return plain if hidden is None else [*plain, (x, hidden(3)), (packed, hidden(3))]

    return calls


def states(*sizes: int, count: int) -> Callable[[int], Any]:
    """Initial states of a batch: one tensor, or a tuple of several."""

    def make(batch: int) -> Any:  # noqa: ANN401
        made = tuple(torch.randn(count, batch, size) for size in sizes)
        return made if len(made) > 1 else made[0]

    return make


def bags() -> list[tuple[Any, ...]]:
    """Bags in rows, and bags by offsets, some of them empty."""
    indices = torch.tensor([1, 0, 2, 2, 8, 0, 5, 1, 1])
    return [
        (torch.tensor([[1, 2, 3], [0, 0, 8]]),),
        (torch.tensor([[1, 2, 3], [0, 0, 8]], dtype=torch.int32),),
        (indices, torch.tensor([0, 0, 4, 4, 9])),
        (indices.int(), torch.tensor([0, 3], dtype=torch.int32)),
        (indices[:0], torch.tensor([0, 0])),
    ]


def weighted_bags() -> list[tuple[Any, ...]]:
    return [(call[0], *(call[1:] or (None,)), torch.randn(call[0].shape)) for call in bags()]


def bags_with_last_offset() -> list[tuple[Any, ...]]:
    return [(indices, torch.cat([offsets, offsets.new_tensor([len(indices)])])) for indices, offsets in bags()[2:]]


CASES: dict[str, Case] = {
    "linear": Case(lambda: nn.Linear(20, 7), on((5, 20), (2, 3, 20), (1, 20), (0, 20))),
    "linear-no-bias": Case(lambda: nn.Linear(33, 1, bias=False), on((5, 33), (33,), (2, 2, 3, 33))),
    "bilinear": Case(lambda: nn.Bilinear(3, 5, 4), lambda: [(torch.randn(6, 3), torch.randn(6, 5))]),
    "conv1d": Case(lambda: nn.Conv1d(4, 6, 3, padding=1, groups=2), on((2, 4, 9), (4, 9))),
    "conv2d": Case(lambda: nn.Conv2d(3, 5, (3, 2), stride=2, padding="valid", dilation=(1, 2)), on((2, 3, 8, 9))),
    "conv2d-circular": Case(lambda: nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"), on((2, 3, 8, 8))),
    "conv3d": Case(lambda: nn.Conv3d(2, 4, 3, padding="same", bias=False), on((1, 2, 4, 5, 6))),
    "conv-depthwise": Case(lambda: nn.Conv2d(5, 10, 3, groups=5), on((2, 5, 6, 6))),
    "transposed1d": Case(
        lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2),
        lambda: [(torch.randn(2, 4, 5),), (torch.randn(2, 4, 5), [12])],
    ),
    "transposed2d": Case(
        lambda: nn.ConvTranspose2d(6, 3, 3, stride=2, padding=1, output_padding=1, bias=False),
        lambda: [(torch.randn(2, 6, 4, 5),), (torch.randn(2, 6, 4, 5), [7, 10]), (torch.randn(6, 4, 5),)],
    ),
    "transposed3d": Case(
        lambda: nn.ConvTranspose3d(2, 4, (2, 1, 3), stride=2, groups=2, dilation=2),
        lambda: [(torch.randn(1, 2, 3, 3, 3),), (torch.randn(1, 2, 3, 3, 3), [8, 6, 10])],
    ),
    "embedding": Case(lambda: nn.Embedding(9, 20), tokens((3, 4), (5,), (), (0,), (2, 0))),
    "embedding-padded": Case(
        lambda: nn.Embedding(9, 6, padding_idx=2),
        lambda: [(torch.tensor([[2, 0], [8, 2]]),), (torch.tensor([2], dtype=torch.int32),)],
    ),
    **{
        f"bag-{mode}": Case(lambda mode=mode: nn.EmbeddingBag(9, 6, mode=mode), bags) for mode in ("sum", "mean", "max")
    },
    **{
        f"bag-{mode}-padded": Case(lambda mode=mode: nn.EmbeddingBag(9, 6, mode=mode, padding_idx=0), bags)
        for mode in ("sum", "mean", "max")
    },
    "bag-weighted": Case(lambda: nn.EmbeddingBag(9, 6, mode="sum"), weighted_bags),
    "bag-weighted-padded": Case(lambda: nn.EmbeddingBag(9, 6, mode="sum", padding_idx=-8), weighted_bags),
    "bag-last-offset": Case(lambda: nn.EmbeddingBag(9, 6, include_last_offset=True), bags_with_last_offset),
    "lstm": Case(lambda: nn.LSTM(5, 8), sequences(5, hidden=states(8, 8, count=1))),
    "lstm-deep": Case(
        lambda: nn.LSTM(5, 8, num_layers=2, bidirectional=True, proj_size=3, bias=False),
        sequences(5, hidden=states(3, 8, count=4)),
    ),
    "lstm-batch-first": Case(lambda: nn.LSTM(5, 8, batch_first=True, dropout=0.5, num_layers=2), on((2, 4, 5))),
    "gru": Case(lambda: nn.GRU(5, 8, num_layers=2, bidirectional=True), sequences(5, hidden=states(8, count=4))),
    "gru-no-bias": Case(lambda: nn.GRU(5, 8, bias=False), sequences(5)),
    "rnn-tanh": Case(lambda: nn.RNN(5, 8, bidirectional=True), sequences(5, hidden=states(8, count=2))),
    "rnn-relu": Case(lambda: nn.RNN(5, 8, nonlinearity="relu", num_layers=3, bias=False), sequences(5)),
    "lstm-cell": Case(
        lambda: nn.LSTMCell(5, 8), lambda: [(torch.randn(3, 5),), (torch.randn(3, 5), (torch.randn(3, 8),) * 2)]
    ),
    "gru-cell": Case(lambda: nn.GRUCell(5, 8), lambda: [(torch.randn(3, 5),), (torch.randn(3, 5), torch.randn(3, 8))]),
    "rnn-cell": Case(lambda: nn.RNNCell(5, 8, bias=False, nonlinearity="relu"), on((3, 5), (5,))),
}
NO_ONEDNN = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
EVERY_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@cache
def quantizer(scheme: str) -> Quantizer:
    return Quantizer(SCHEMES[scheme], kernel="dequantize", validators=(), show_progress=False)


def quantized(model: nn.Module, scheme: str) -> nn.Module:
    """What the scheme makes of a model, with the plainest kernel."""
    return quantizer(scheme).quantize(model).model


def twin(model: nn.Module, quantized_model: nn.Module) -> nn.Module:
    """A copy of the float model with the weights that the codes stand for, decoded here, put in."""
    copied = copy.deepcopy(model)
    for name, module in quantized_model.named_modules():
        if isinstance(module, QuantizedModule):
            layer = copied.get_submodule(name)
            state = module.state_dict()
            for parameter, spec in module.weight_specs.items():
                stored = {suffix: state[parameter + suffix] for suffix in spec.layout}
                # Frozen, for torch chooses other functions for weights that require gradients.
                layer.get_parameter(parameter).requires_grad_(requires_grad=False).copy_(decode(stored, spec))
    return copied


def assert_same(actual: object, expected: object) -> None:
    """Equal in every bit of every tensor."""
    pairs = list(zip(iter_tensors(actual), iter_tensors(expected), strict=True))
    assert pairs
    assert all(type(a) is Tensor and same_bits(a, e) for a, e in pairs)
