"""What runs a quantized module: kernels packed for its weights. A cache, never part of the model."""

import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor

from mono_quant.core.tensors import versions
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.select import NamedKernel, choose, size_class
from mono_quant.plugin_api.kernel import Op

__all__ = ["REFERENCE_ONLY", "Engine"]

REFERENCE_ONLY: tuple[NamedKernel, ...] = (("reference", ReferenceKernel()),)
"""What a layer runs with until it is given kernels."""


class Engine:
    """Chooses a kernel for each size of input at its first use and keeps the packed weights.

    Copying or pickling an engine gives one with the same kernels to choose from and nothing packed.

    Args:
        kernels: what to choose from.
        wanted: ``"auto"`` or the name of a kernel.
    """

    def __init__(self, kernels: tuple[NamedKernel, ...] = REFERENCE_ONLY, wanted: str = "auto") -> None:
        self.kernels = kernels
        self.wanted = wanted
        self._lock = threading.Lock()
        self._packed: dict[str, Callable[[Tensor], Tensor]] = {}
        self._by_size: dict[int, Callable[[Tensor], Tensor]] = {}
        self._of: tuple[Tensor | None, ...] = ()
        self._versions: tuple[int, ...] = ()

    def __call__(self, x: Tensor, of: tuple[Tensor | None, ...], op: Callable[[], Op]) -> Tensor:
        """Run the op on ``x``.

        Args:
            x: float32.
            of: the tensors that the op is made of; others, or others' values, and everything is packed anew.
            op: makes the op; called only when something must be chosen or packed.
        """
        packed = self._by_size.get(size_class(x))
        if packed is None or not self._is_packed_of(of):
            packed = self._choose(x, of, op)
        return packed(x)

    def _is_packed_of(self, tensors: tuple[Tensor | None, ...]) -> bool:
        return all(map(_is, tensors, self._of)) and versions(tensors) == self._versions

    def _choose(self, x: Tensor, of: tuple[Tensor | None, ...], op: Callable[[], Op]) -> Callable[[Tensor], Tensor]:
        with self._lock:
            if not self._is_packed_of(of):
                self._packed, self._by_size, self._of, self._versions = {}, {}, of, versions(of)
            # Sizes that chose the same kernel share one packed weight.
            name, packed = choose(op(), x, self.kernels, self.wanted, self._packed)
            self._packed[name] = self._by_size[size_class(x)] = packed
            return packed

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the kernels in use, in the order in which they were chosen."""
        return tuple(self._packed)

    def clear(self) -> None:
        """Forget the packed weights."""
        with self._lock:
            self._packed, self._by_size, self._of, self._versions = {}, {}, (), ()

    def __reduce__(self) -> tuple[Any, ...]:
        return Engine, (self.kernels, self.wanted)


def _is(one: object, other: object) -> bool:
    return one is other
