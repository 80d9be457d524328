"""Putting to the test that channels can be multiplied in one place and divided in another.

The model runs once more with each channel of a module's output multiplied by a power of two and the input of the module
that follows divided by it. Powers of two round nothing: if what lies between is positively homogeneous, keeps channels
in their places, and nobody else reads it, then the model gives the same bits.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["channel_axis", "scaled"]

_LARGEST = 4
"""Exponents are from -4 to 4."""
_CONVOLUTIONS: dict[type[nn.Module], int] = {nn.Conv1d: -2, nn.Conv2d: -3, nn.Conv3d: -4}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.PReLU)


def channel_axis(module: nn.Module) -> int | None:
    """The axis of inputs and outputs that a module's channels run along; None for one that is not known."""
    if isinstance(module, nn.Linear):
        return -1
    if isinstance(module, _NORMS):
        return 1
    return next((axis for kind, axis in _CONVOLUTIONS.items() if isinstance(module, kind)), None)


@contextmanager
def scaled(modules: Mapping[str, nn.Module], pairs: Mapping[str, str]) -> Iterator[set[str]]:
    """Multiply and divide while this lasts.

    Args:
        modules: of the model, by name.
        pairs: a module → the one that follows; of those that `channel_axis` knows.

    Yields:
        The modules whose outputs were divided again, filled while the model runs.
    """
    divided: set[str] = set()
    powers: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for number, (first, second) in enumerate(pairs.items()):
            hook = _multiplying(first, modules[first], powers, number)
            stack.callback(modules[first].register_forward_hook(hook).remove)
            before = _dividing(first, modules[second], powers, divided)
            stack.callback(modules[second].register_forward_pre_hook(before, prepend=True).remove)
        yield divided


def _multiplying(name: str, module: nn.Module, powers: dict[str, Tensor], number: int) -> Callable[..., Tensor]:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        axis = channel_axis(module) or 0
        random = torch.Generator().manual_seed(number)
        exponents = torch.randint(-_LARGEST, _LARGEST + 1, (output.shape[axis],), generator=random)
        powers[name] = torch.exp2(exponents.to(output.dtype)).to(output.device)
        return output * _along(powers[name], output, axis)

    return hook


def _dividing(first: str, module: nn.Module, powers: dict[str, Tensor], divided: set[str]) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *others = args
        axis = channel_axis(module) or 0
        if x.shape[axis] != len(powers[first]):
            raise ValueError(f"{first} has {len(powers[first])} channels, and what follows it {x.shape[axis]}")
        divided.add(first)
        return (x / _along(powers[first], x, axis), *others)

    return hook


def _along(channels: Tensor, x: Tensor, axis: int) -> Tensor:
    """``(C,)`` so that it broadcasts against ``x`` with its channels on that axis."""
    shape = [1] * x.ndim
    shape[axis] = -1
    return channels.reshape(shape)
