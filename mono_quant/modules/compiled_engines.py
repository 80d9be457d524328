"""What runs layers inside ``torch.compile``: found by the weight that it was packed of.

An operator gets tensors and knows no layer. What it has packed is kept under the weight, held weakly, and goes with it.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from weakref import ref

from torch import Tensor

from mono_quant.core.tensors import versions
from mono_quant.kernels.select import NamedKernel
from mono_quant.modules.engine import Engine

__all__ = ["engine_of", "forget", "ready_for"]

Run = Callable[[Tensor], Tensor]

_MOST_READY = 64
"""A weight is called with as many shapes of inputs before it is asked again which kernel takes them."""

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


def ready_for(
    weight: Tensor, others: Sequence[Tensor | None], call: tuple[object, ...], make: Callable[[], Run]
) -> Run:
    """What runs a call like this one, found in the least time.

    Args:
        weight: as it is now, and the other tensors as they are.
        others: held as long as the weight is there.
        call: all else that ``make`` depends on, the shape of the input too.
        make: gives it; called when there is none yet, or a tensor was written into.
    """
    known = _of(weight).ready
    key = (*map(id, others), *call)
    found = known.get(key)
    now = versions(others)
    if found is None or found[1] != now:
        if len(known) >= _MOST_READY:
            known.clear()
        known[key] = found = (make(), now, others)
    return found[0]


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
        self.ready: dict[tuple[object, ...], tuple[Run, tuple[int, ...], Sequence[Tensor | None]]] = {}


def _of(weight: Tensor) -> _OfWeight:
    with _lock:
        found = _of_weights.get(id(weight))
        if found is None or found.weight() is not weight or found.version != versions((weight,)):
            _of_weights[id(weight)] = found = _OfWeight(weight)
        return found
