"""A weight in the layout that is best for the input that is there."""

from collections.abc import Callable

import torch
from torch import Tensor

from mono_quant.core.tensors import versions

__all__ = ["PackedByShape"]

_KEPT = 2
_MOST_PACKED = 16


class PackedByShape:
    """A weight that oneDNN packed, anew for the first shapes of inputs; those of the last two are kept.

    Which layout is the best depends on the input. A weight in another one is right too: it is put in order at each
    call, which can take longer than the layer.

    Args:
        weight: kept, not copied: packed for a further shape as long as nothing writes into it. Of what torch does not
            tell of, as writes through ``.data``, `mono_quant.modules.KernelModule.repack` has to be told.
        pack: weight, and the shape of an input or None for any → the packed weight.
    """

    def __init__(self, weight: Tensor, pack: Callable[[Tensor, list[int] | None], Tensor]) -> None:
        self._weight = weight
        self._version = versions([weight])
        self._pack = pack
        self._left = _MOST_PACKED
        self._last = pack(weight, None)
        self._by_shape: dict[torch.Size, Tensor] = {}  # replaced as a whole: another thread may look into it

    def for_input(self, shape: torch.Size) -> Tensor:
        """The packed weight for an input of this shape; after the first shapes that of another."""
        packed = self._by_shape.get(shape)
        return self._packed(shape) if packed is None else packed

    def _packed(self, shape: torch.Size) -> Tensor:
        if self._left <= 0 or versions([self._weight]) != self._version:
            return self._last
        self._left -= 1
        self._last = packed = self._pack(self._weight, [*shape])
        kept = [*self._by_shape.items(), (shape, packed)]
        self._by_shape = dict(kept[-_KEPT:])
        return packed
