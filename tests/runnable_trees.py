"""Random models that run: any nesting of every kind of layer, shared, tied, frozen, hooked and in half precision."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

__all__ = ["SIZE", "runnable_models"]

SIZE = 6
"""Every module maps float32 ``(N, SIZE)`` to the same."""
_ROWS = 7


class Adapted(nn.Module):
    """Any layer, with what turns ``(N, SIZE)`` into its input and its output into ``(N, SIZE)``."""

    def __init__(self, layer: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = layer
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.layer, x)


class Sum(nn.Module):
    """The sum of what several modules give, which stand in a plain list too."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({f"part{number}": module for number, module in enumerate(modules)})
        self.plain = list(modules)
        self.scale = nn.Parameter(torch.randn(SIZE))
        self.register_buffer("shift", torch.randn(SIZE))
        self.register_buffer("volatile", torch.ones(SIZE), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        total = sum((part(x) for part in self.plain), self.shift * self.volatile)
        return x + torch.tanh(total * self.scale)


class Read(nn.Module):
    """Reads a parameter by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(SIZE, SIZE))
        self.unused = nn.Embedding(_ROWS, 3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


class Own(nn.Linear):
    """A user's layer."""

    def __init__(self) -> None:
        super().__init__(SIZE, SIZE)
        self.notes = {"calls": []}

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + functional.linear(x, self.weight).abs()


def indices(x: Tensor) -> Tensor:
    """Three rows of a table for each row of x."""
    return x.argsort(dim=-1)[:, :3]


def empty(make: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of nothing to initialise
        return make()


def cast(dtype: torch.dtype) -> nn.Module:
    return Adapted(nn.Linear(SIZE, SIZE).to(dtype), lambda layer, x: layer(x.to(dtype)).float())


def recurrent(layer: nn.Module) -> nn.Module:
    return Adapted(layer, lambda layer, x: layer(x)[0][:, :SIZE])


LEAVES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(SIZE, SIZE),
    "without bias": lambda: nn.Linear(SIZE, SIZE, bias=False),
    "odd": lambda: nn.Sequential(nn.Linear(SIZE, 5), nn.ReLU(), nn.Linear(5, SIZE)),
    "one column": lambda: Adapted(nn.Linear(1, SIZE), lambda layer, x: layer(x[:, :1])),
    "one row": lambda: Adapted(nn.Linear(SIZE, 1), lambda layer, x: layer(x).expand(-1, SIZE)),
    "no row": lambda: Adapted(empty(lambda: nn.Linear(SIZE, 0)), lambda layer, x: x + layer(x).sum(-1, keepdim=True)),
    "half": lambda: cast(torch.float16),
    "bfloat16": lambda: cast(torch.bfloat16),
    "double": lambda: cast(torch.float64),
    "head": lambda: Adapted(nn.Linear(SIZE, _ROWS, bias=False), lambda layer, x: layer(x)[:, :SIZE]),
    "users": Own,
    "read": Read,
    "computed": lambda: parametrizations.weight_norm(nn.Linear(SIZE, SIZE)),
    "bilinear": lambda: Adapted(nn.Bilinear(SIZE, 2, SIZE), lambda layer, x: layer(x, x[:, :2])),
    "conv": lambda: Adapted(nn.Conv1d(1, 3, 3, padding=1), lambda layer, x: layer(x[:, None]).mean(1)),
    "conv2d": lambda: Adapted(nn.Conv2d(2, 3, 1), lambda layer, x: layer(x.reshape(-1, 2, 3, 1)).flatten(1)[:, :SIZE]),
    "transposed": lambda: Adapted(nn.ConvTranspose1d(2, 1, 2, 2), lambda layer, x: layer(x.reshape(-1, 2, 3))[:, 0]),
    "table": lambda: Adapted(nn.Embedding(_ROWS, SIZE, padding_idx=1), lambda layer, x: layer(x.argmax(-1))),
    "bag": lambda: Adapted(nn.EmbeddingBag(_ROWS, SIZE), lambda layer, x: layer(indices(x))),
    "lstm": lambda: recurrent(nn.LSTM(SIZE, 4, bidirectional=True)),
    "gru": lambda: recurrent(nn.GRU(SIZE, SIZE, num_layers=2, bias=False)),
    "cell": lambda: Adapted(nn.GRUCell(SIZE, SIZE), lambda layer, x: layer(x)),
    "attention": lambda: Adapted(nn.MultiheadAttention(SIZE, 2), lambda layer, x: layer(x, x, x)[0]),
    "encoder": lambda: nn.TransformerEncoderLayer(SIZE, 2, 5, dropout=0.0, batch_first=True),
    "layer norm": lambda: nn.LayerNorm(SIZE),
    "batch norm": lambda: nn.BatchNorm1d(SIZE),
    "activation": nn.Tanh,
}  # fmt: skip


@st.composite
def runnable_models(draw: st.DrawFn) -> nn.Module:
    """A random tree in eval mode; afterwards some weights are tied, some frozen, and some modules have hooks."""
    made: list[nn.Module] = []
    torch.manual_seed(draw(st.integers(0, 2**31)))

    def node(depth: int) -> nn.Module:
        kinds = ["leaf", "leaf", *(["sequence", "sum"] if depth < 3 else []), *(["shared"] if made else [])]
        kind = draw(st.sampled_from(kinds))
        if kind == "shared":
            return draw(st.sampled_from(made))
        if kind == "leaf":
            module = LEAVES[draw(st.sampled_from(sorted(LEAVES)))]()
        else:
            parts = [node(depth + 1) for _ in range(draw(st.integers(1, 3)))]
            module = nn.Sequential(*parts) if kind == "sequence" else Sum(parts)
        made.append(module)
        return module

    model = Sum([node(0) for _ in range(draw(st.integers(1, 4)))])
    modules = list(model.modules())
    for _ in range(draw(st.integers(0, 3))):
        tie(draw, modules)
    for module in draw(st.lists(st.sampled_from(modules), max_size=2)):
        module.requires_grad_(requires_grad=draw(st.booleans()))
    for module in draw(st.lists(st.sampled_from(modules), max_size=2)):
        module.register_forward_hook(halved)
    return model.eval()


def tie(draw: st.DrawFn, modules: list[nn.Module]) -> None:
    """Give one layer the weight of another of the same shape and dtype."""
    layers = [module for module in modules if type(module) in {nn.Linear, nn.Embedding, nn.EmbeddingBag, Own}]
    layers = [layer for layer in layers if "weight" in layer._parameters]
    if layers:
        one = draw(st.sampled_from(layers))
        alike = [o for o in layers if (o.weight.shape, o.weight.dtype) == (one.weight.shape, one.weight.dtype)]
        one.weight = draw(st.sampled_from(alike)).weight


def halved(_: nn.Module, args: Any, output: Any) -> Any:  # noqa: ANN401
    """A hook that users might put on a module."""
    del args
    return output / 2 if isinstance(output, Tensor) else output
