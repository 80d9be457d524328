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
        self._packed: dict[str, Callable[[Tensor], Tensor]] = {}
        self._by_size: dict[int, Callable[[Tensor], Tensor]] = {}

    def __call__(self, x: Tensor, op: Callable[[], QuantizedOp]) -> Tensor:
        """Run the op on ``x``; ``op`` is called only when something must be chosen or packed."""
        packed = self._by_size.get(size_class(x))
        if packed is None:
            packed = self._choose(x, op)
        return packed(x)

    def _choose(self, x: Tensor, op: Callable[[], QuantizedOp]) -> Callable[[Tensor], Tensor]:
        with self._lock:
            arithmetic = op()
            name, kernel = choose(arithmetic, x, self.kernels, self.wanted)
            # Sizes that chose the same kernel share one packed weight.
            if name not in self._packed:
                self._packed[name] = kernel.pack(arithmetic)
            self._by_size[size_class(x)] = self._packed[name]
            return self._packed[name]

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the kernels in use, in the order in which they were chosen."""
        return tuple(self._packed)

    def clear(self) -> None:
        """Forget the packed weights."""
        with self._lock:
            self._packed, self._by_size = {}, {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Engine, (self.kernels, self.wanted)
