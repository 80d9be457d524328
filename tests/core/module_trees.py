"""Random models for property tests: any nesting, shared modules, tied, frozen and half-precision parameters."""

from collections.abc import Callable, Iterator

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

SIZE = 3

LEAVES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(SIZE, SIZE),
    "linear without bias": lambda: nn.Linear(SIZE, SIZE, bias=False),
    "half linear": lambda: nn.Linear(SIZE, SIZE).half(),
    "double linear": lambda: nn.Linear(SIZE, SIZE).double(),
    "frozen linear": lambda: nn.Linear(SIZE, SIZE).requires_grad_(False),  # noqa: FBT003 - torch's own signature
    "conv": lambda: nn.Conv2d(SIZE, 2 * SIZE, 2),
    "norm": lambda: nn.BatchNorm2d(SIZE),
    "affine-free norm": lambda: nn.LayerNorm(SIZE, elementwise_affine=False),
    "embedding": lambda: nn.Embedding(SIZE, SIZE),
    "recurrent": lambda: nn.GRU(SIZE, SIZE),
    "activation": nn.ReLU,
    "lazy": lambda: nn.LazyLinear(SIZE),
    "attention": lambda: nn.MultiheadAttention(SIZE, 1),
}


class Own(nn.Module):
    """Has parameters of its own, and maybe children."""

    def __init__(self, children: list[nn.Module] | None = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(SIZE, SIZE))
        self.register_parameter("nothing", None)
        for number, child in enumerate(children or []):
            self.add_module(f"child{number}", child)


@st.composite
def models(draw: st.DrawFn) -> nn.Module:
    """A random tree; afterwards some weights are tied."""
    made: list[nn.Module] = []
    leaves = {**LEAVES, "owner without children": Own}

    def node(depth: int) -> nn.Module:
        containers = ["sequence", "owner"] if depth < 3 else []
        shared = ["shared"] if made else []
        kind = draw(st.sampled_from(draw(st.sampled_from([[*leaves], containers or [*leaves], shared or [*leaves]]))))
        if kind == "shared":
            return draw(st.sampled_from(made))
        if kind in leaves:
            module = leaves[kind]()
        else:
            children = [node(depth + 1) for _ in range(draw(st.integers(0 if depth else 3, 5)))]
            module = nn.Sequential(*children) if kind == "sequence" else Own(children)
        made.append(module)
        return module

    model = draw(st.sampled_from([node, lambda _: nn.Sequential(*(node(1) for _ in range(5)))]))(0)
    linears = [module for module in model.modules() if type(module) is nn.Linear]
    tables = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Embedding)]
    for _ in range(draw(st.integers(0, 3)) if linears else 0):
        draw(st.sampled_from(linears)).weight = draw(st.sampled_from(tables)).weight
    return model


def paths(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every path from the model to a module inside it, by a walk of our own."""
    yield name, model
    for child_name, child in model._modules.items():
        if child is not None:
            yield from paths(child, f"{name}.{child_name}" if name else child_name)


def own_parameters(module: nn.Module) -> dict[int, Tensor]:
    return {id(value): value for value in module._parameters.values() if value is not None}


def byte_count(tensor: Tensor) -> int:
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        return 0
    return tensor.numel() * torch.finfo(tensor.dtype).bits // 8
