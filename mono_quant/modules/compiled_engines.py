"""What runs layers inside ``torch.compile``: found by the weight that it was packed of.

An operator gets tensors and knows no layer. What it has packed is kept under the weight, held weakly, and goes with it.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from operator import is_
from typing import cast
from weakref import ref

from torch import Tensor

from mono_quant.core.tensors import versions
from mono_quant.kernels.select import NamedKernel
from mono_quant.modules.engine import Engine

__all__ = ["engine_of", "forget", "ready_for"]

Run = Callable[[Tensor], Tensor]

_MOST_READY = 8
"""Kinds of calls of a weight that are found without a look at what was packed; mostly it has one."""

_of_weights: dict[int, "_OfWeight"] = {}
"""By the weight's ``id``. None holds the weight itself."""
_lock = threading.RLock()
"""A module may go while this thread holds the lock, and lets go of what was packed of its weights."""


def engine_of(
    weight: Tensor, layer: tuple[object, ...], kernels: tuple[NamedKernel, ...], wanted: str = "auto"
) -> Engine:
    """The engine that packs this weight, as it is now, for this layer.

    Args:
        weight: or its codes. What the engine packs must not be made of this object, but of ``weight.detach()``.
        layer: all that tells layers with this weight apart.
        kernels: what to choose from.
        wanted: ``"auto"`` or the name of a kernel.
    """
    engines = _of(weight).engines
    with _lock:
        if layer not in engines:
            engines[layer] = Engine(kernels, wanted)
        return engines[layer]


def ready_for(x: Tensor, tensors: Sequence[Tensor | None], numbers: Sequence[object], make: Callable[[], Run]) -> Run:
    """What runs a call of an operator; it was made for the first call like it, and is found in little time.

    Args:
        x: the input, of which the shape and the dtype tell calls apart.
        tensors: of the layer, the weight first. What is made may hold all but the weight.
        numbers: the operator's other arguments.
        make: gives it.
    """
    known = _of_weights.get(id(tensors[0]))
    if known is not None:
        for ready in known.ready:
            if ready.is_for(x, tensors, numbers):
                return ready.run
    ready = _Ready(x, tensors, numbers)
    ready.run = make()
    known = _of(cast("Tensor", tensors[0]))
    known.ready = [ready, *known.ready[: _MOST_READY - 1]]  # replaced as a whole: another thread may look into it
    return ready.run


def forget(weights: Iterable[Tensor | None]) -> None:
    """Let go of what was packed of these weights."""
    with _lock:
        for weight in weights:
            _of_weights.pop(id(weight), None)


class _OfWeight:
    """What was packed of one weight as it was."""

    __slots__ = ("engines", "ready", "version", "weight")

    def __init__(self, weight: Tensor) -> None:
        place = id(weight)

        def let_go(gone: ref[Tensor]) -> None:
            with _lock:  # by now another weight may have that place
                if place in _of_weights and _of_weights[place].weight is gone:
                    del _of_weights[place]

        self.weight = ref(weight, let_go)
        self.version = versions((weight,))
        self.engines: dict[tuple[object, ...], Engine] = {}
        self.ready: list[_Ready] = []


class _Ready:
    """What runs calls that are alike."""

    __slots__ = ("_dtype", "_numbers", "_others", "_shape", "_versions", "_weight", "run")

    def __init__(self, x: Tensor, tensors: Sequence[Tensor | None], numbers: Sequence[object]) -> None:
        weight, *self._others = tensors
        self._weight = ref(cast("Tensor", weight))
        self._versions = versions(tensors)
        self._numbers = numbers
        self._shape, self._dtype = x.shape, x.dtype
        self.run: Run

    def is_for(self, x: Tensor, tensors: Sequence[Tensor | None], numbers: Sequence[object]) -> bool:
        """Whether a call is: the same tensors, not written into since, and an input that looks the same."""
        return (
            x.shape == self._shape
            and tensors[0] is self._weight()
            and all(map(is_, tensors[1:], self._others))
            and numbers == self._numbers
            and x.dtype is self._dtype
            and versions(tensors) == self._versions
        )


def _of(weight: Tensor) -> _OfWeight:
    with _lock:
        found = _of_weights.get(id(weight))
        if found is None or found.weight() is not weight or found.version != versions((weight,)):
            _of_weights[id(weight)] = found = _OfWeight(weight)
        return found
