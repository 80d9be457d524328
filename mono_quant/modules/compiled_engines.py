"""What runs layers inside ``torch.compile``: engines that are found by the weight that they have packed.

An operator gets tensors and knows no layer. What it has packed is kept under the weight, held weakly, and goes with it.
"""

import threading
from collections.abc import Iterable

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from mono_quant.core.tensors import versions
from mono_quant.kernels.select import NamedKernel
from mono_quant.modules.engine import Engine

__all__ = ["engine_of", "forget"]

_engines: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Weight → how it was when it was packed, and the engines of the layers that have it. None holds the key itself."""
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
    now = versions([weight])
    with _lock:
        packed, engines = _engines.get(weight, (None, {}))  # type: ignore[no-untyped-call]
        if packed != now:
            engines = {}
            _engines[weight] = (now, engines)
        if layer not in engines:
            engines[layer] = Engine(kernels, wanted)
        return engines[layer]  # type: ignore[no-any-return]


def forget(weights: Iterable[Tensor | None]) -> None:
    """Let go of what was packed of these weights."""
    with _lock:
        for weight in weights:
            if weight is not None:
                _engines.pop(weight, None)  # type: ignore[no-untyped-call]
