"""What runs a quantized module: kernels packed for its weights. A cache, never part of the model."""

import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor

from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.select import NamedKernel, choose, size_class
from mono_quant.plugin_api.kernel import QuantizedOp

__all__ = ["Engine"]

_REFERENCE_ONLY: tuple[NamedKernel, ...] = (("reference", ReferenceKernel()),)


class Engine:
    """Chooses a kernel for each size of input at its first use and keeps the packed weights.

    Copying or pickling an engine gives one with the same kernels to choose from and nothing packed.

    Args:
        kernels: what to choose from.
        wanted: ``"auto"`` or the name of a kernel.
    """

    def __init__(self, kernels: tuple[NamedKernel, ...] = _REFERENCE_ONLY, wanted: str = "auto") -> None:
        self.kernels = kernels
        self.wanted = wanted
        self._lock = threading.Lock()
        self._packed: dict[int, tuple[str, Callable[[Tensor], Tensor]]] = {}

    def __call__(self, x: Tensor, op: Callable[[], QuantizedOp]) -> Tensor:
        """Run the op on ``x``; ``op`` is called only when something must be packed."""
        packed = self._packed.get(size_class(x))
        if packed is None:
            packed = self._choose(x, op)
        return packed[1](x)

    def _choose(self, x: Tensor, op: Callable[[], QuantizedOp]) -> tuple[str, Callable[[Tensor], Tensor]]:
        with self._lock:
            known = self._packed.get(size_class(x))
            if known is not None:
                return known
            name, run = choose(op(), x, self.kernels, self.wanted)
            # Sizes that chose the same kernel share one packed weight.
            same = next((pair for pair in self._packed.values() if pair[0] == name), (name, run))
            self._packed[size_class(x)] = same
            return same

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the kernels in use, in the order in which they were chosen."""
        return tuple(dict.fromkeys(name for name, _ in self._packed.values()))

    def clear(self) -> None:
        """Forget the packed weights."""
        with self._lock:
            self._packed = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Engine, (self.kernels, self.wanted)
