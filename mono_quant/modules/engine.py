"""What runs a quantized module: kernels packed for its weights. A cache, never part of the model."""

import threading
from collections.abc import Callable
from operator import is_
from typing import Any

import torch
from torch import Tensor

from mono_quant.core.tensors import versions
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.kernels.select import NamedKernel, choose, size_class
from mono_quant.plugin_api.kernel import FusedRun, Op

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
        self._packed = _Packed(())

    def __call__(self, x: Tensor, of: tuple[Tensor | None, ...], op: Callable[[], Op]) -> Tensor:
        """Run the op on ``x``, float32; the others are those of `packed`."""
        return self.packed(x.shape, of, op, lambda: x)(x)

    def packed(
        self, shape: torch.Size, of: tuple[Tensor | None, ...], op: Callable[[], Op], example: Callable[[], Tensor]
    ) -> Callable[[Tensor], Tensor]:
        """The op, packed by the kernel for inputs of this size.

        Args:
            shape: of an input.
            of: the tensors that the op is made of; others, or others' values, and everything is packed anew.
            op: makes the op; called only when something must be chosen or packed.
            example: gives an input to choose by, float32 and of the kernels' shape; called only then.
        """
        packed = self._packed  # looked up once: another thread may pack for other tensors at any time
        run = packed.by_size.get(size_class(shape))
        if run is None or not packed.is_of(of):
            run = self._choose(example(), of, op)
        return run

    def _choose(self, x: Tensor, of: tuple[Tensor | None, ...], op: Callable[[], Op]) -> Callable[[Tensor], Tensor]:
        with self._lock:
            if not self._packed.is_of(of):
                self._packed = _Packed(of)
            packed = self._packed
            # Sizes that chose the same kernel share one packed weight.
            name, run = choose(op(), x, self.kernels, self.wanted, packed.by_name)
            packed.by_name[name] = packed.by_size[size_class(x.shape)] = run
            return run

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the kernels in use, in the order in which they were chosen."""
        return tuple(self._packed.by_name)

    @property
    def has_fused(self) -> bool:
        """Whether one of them takes codes."""
        return any(isinstance(run, FusedRun) for run in self._packed.by_name.values())

    def clear(self) -> None:
        """Forget the packed weights."""
        with self._lock:
            self._packed = _Packed(())

    def __reduce__(self) -> tuple[Any, ...]:
        return Engine, (self.kernels, self.wanted)


class _Packed:
    """What was packed of some tensors as they were: replaced as a whole, so that no two threads mix what they see."""

    __slots__ = ("by_name", "by_size", "of", "versions")

    def __init__(self, of: tuple[Tensor | None, ...]) -> None:
        self.of = of
        self.versions = versions(of)
        self.by_name: dict[str, Callable[[Tensor], Tensor]] = {}
        self.by_size: dict[int, Callable[[Tensor], Tensor]] = {}

    def is_of(self, tensors: tuple[Tensor | None, ...]) -> bool:
        """Whether it is of the same tensors, not written into since."""
        return all(map(is_, tensors, self.of)) and versions(tensors) == self.versions
