"""Following an output through functions that are positively homogeneous: ``f(s x) = s f(x)`` for ``s > 0``.

They are so channel by channel, as a rectifier or a pool is: what multiplies a channel before them can as well multiply
it after. What is followed is one tensor after the other, each read once: by such a function, which makes the next, or
at the end by a watched module.
"""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["HOMOGENEOUS", "Paths"]

_FUNCTIONAL = (
    "relu relu_ leaky_relu leaky_relu_ max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "dropout dropout1d dropout2d dropout3d"
)
_TENSOR = "relu relu_ flatten mean squeeze contiguous"
HOMOGENEOUS = frozenset(
    [getattr(functional, name) for name in _FUNCTIONAL.split()]
    + [getattr(Tensor, name) for name in _TENSOR.split()]
    + [torch.relu, torch.relu_, torch.flatten, torch.mean, torch.squeeze]
)
"""Functions of one tensor, their first argument. Those that move axes keep channels apart only for some shapes, which
is left to the test of `mono_quant.core.scaling`. Not among them: ReLU6, and what else is cut off at a number."""

_ON = "a function that is followed"


@attrs.define(eq=False)
class _Step:
    """One tensor on the way, and who read it."""

    tensor: "weakref.ref[Tensor]"
    producer: str
    readers: list[str] = attrs.field(factory=list)


class Paths:
    """What became of the outputs of modules in one forward pass."""

    def __init__(self) -> None:
        self._steps: dict[str, list[_Step]] = defaultdict(list)
        self._current: dict[int, _Step] = {}

    def begin(self, producer: str, output: object) -> None:
        """A module gave an output; nothing is followed but single tensors."""
        if isinstance(output, Tensor):
            self._add(producer, output)

    def read(self, reader: str, tensors: Iterable[Tensor], *, is_running: bool) -> None:
        """Somebody received tensors; a running module that reads its own input again does not count."""
        for tensor in tensors:
            step = self._step(tensor)
            if step is not None and not (is_running and reader in step.readers):
                step.readers.append(reader)

    def passed(self, func: Callable[..., Any], args: tuple[Any, ...]) -> _Step | None:
        """The step whose tensor a function, outside of all watched modules, is about to take further; None for none."""
        first = args[0] if args else None
        return self._step(first) if func in HOMOGENEOUS and isinstance(first, Tensor) else None

    def go_on(self, step: _Step, output: object) -> None:
        """It has done so. The last reader of the step, of which `read` was told, was that function."""
        if isinstance(output, Tensor) and step.readers:
            step.readers[-1] = _ON
            self._add(step.producer, output)

    def end(self, producer: str) -> str | None:
        """Who received what was made of the output, alone; None where anybody else read it or keeps it."""
        steps = self._steps[producer]
        if not steps or any(len(step.readers) != 1 or step.tensor() is not None for step in steps):
            return None
        *on, last = [step.readers[0] for step in steps]
        return last if all(reader == _ON for reader in on) and last != _ON else None

    def _add(self, producer: str, tensor: Tensor) -> None:
        step = _Step(weakref.ref(tensor), producer)
        self._steps[producer].append(step)
        self._current[id(tensor)] = step

    def _step(self, tensor: Tensor) -> _Step | None:
        step = self._current.get(id(tensor))
        return step if step is not None and step.tensor() is tensor else None
