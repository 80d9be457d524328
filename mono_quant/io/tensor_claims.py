"""What the calls in a pickle of tensors claim, and whether the file has the bytes for it.

``torch.load(weights_only=True)`` runs no code of a file. But it calls functions of torch with arguments from the file,
and a file of 1 kB can make it allocate any amount of memory. So each file is first read with stand-ins in place of the
functions.
"""

import math
from typing import TypeGuard

import attrs
import torch

from mono_quant.errors import ArtifactError
from mono_quant.io.limits import MOST_DIMENSIONS
from mono_quant.io.pickle_machine import Ordered
from mono_quant.io.pickle_reader import Global

__all__ = ["StorageClaim", "TensorClaim", "TensorClaims"]

_STORAGES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "ComplexDoubleStorage": 16,
    "ComplexFloatStorage": 8,
}  # fmt: skip
"""Class of storage → bytes of one element. Those of quantized numbers are left out."""

_ITEM_SIZES = {
    **{Global("torch", name): size for name, size in _STORAGES.items()},
    Global("torch.storage", "UntypedStorage"): 1,
}
_DTYPES = {
    Global("torch", str(dtype).removeprefix("torch.")): dtype.itemsize
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype)
}
_LARGEST = 2**62
"""More bytes than any file has; sums of products of such numbers are exact in Python."""


@attrs.frozen
class StorageClaim:
    """A piece of memory: ``count`` elements, or bytes when its type is not known."""

    key: str
    kind: Global
    count: int

    @property
    def item_size(self) -> int:
        """Bytes of an element."""
        return _ITEM_SIZES[self.kind]

    @property
    def nbytes(self) -> int:
        """Bytes of all."""
        return self.count * self.item_size


@attrs.frozen
class TensorClaim:
    """Stands for a tensor that fits into its storage."""


class TensorClaims:
    """What references and calls give while a pickle is read.

    Args:
        extras: how many items the id of a storage has after its size; all must be None.
    """

    def __init__(self, *, extras: int = 0) -> None:
        self.storages: dict[str, StorageClaim] = {}
        self._extras = extras

    def refer(self, reference: object) -> StorageClaim:
        """The storage with an id ``("storage", type, key, device, size)``.

        Raises:
            ArtifactError: when it is the id of something else, or one key has two sizes or types.
        """
        match reference:
            case ("storage", Global() as kind, str() as key, str(), int() as count, *rest) if (
                kind in _ITEM_SIZES and count >= 0 and rest == [None] * self._extras
            ):
                claim = StorageClaim(key, kind, count)
            case _:
                raise ArtifactError("it refers to something that is not the memory of a plain tensor")
        if self.storages.setdefault(key, claim) != claim:
            raise ArtifactError(f"it claims two sizes or types for the memory {key!r}")
        return claim

    def call(self, function: object, arguments: object) -> object:
        """What a call gives, of one of the four functions that tensors and dictionaries are written with.

        Raises:
            ArtifactError: when it is another function, or its arguments do not describe a plain tensor.
        """
        match function, arguments:
            case Global("collections", "OrderedDict"), ():
                return Ordered()
            case Global("torch._utils", "_rebuild_tensor_v2"), (
                StorageClaim() as storage,
                at,
                shape,
                strides,
                bool(),
                Ordered() as hooks,
            ):
                _seal(hooks)
                _refuse_beyond(storage, storage.item_size, at, shape, strides)
                return TensorClaim()
            case Global("torch._utils", "_rebuild_tensor_v3"), (
                StorageClaim() as storage, at, shape, strides, bool(), Ordered() as hooks, Global() as dtype,
            ) if dtype in _DTYPES:  # fmt: skip
                _seal(hooks)
                _refuse_beyond(storage, _DTYPES[dtype], at, shape, strides)
                return TensorClaim()
            case Global("torch._utils", "_rebuild_parameter"), (TensorClaim() as tensor, bool(), Ordered() as hooks):
                _seal(hooks)
                return tensor
            case Global() as named, _:
                raise ArtifactError(f"it calls {named}, with which no plain tensor is made")
            case _:
                raise ArtifactError("it calls something that is not a function")


def _seal(hooks: Ordered) -> None:
    """Refuse backward hooks, which would be called with gradients, and those that the pickle would add later."""
    if hooks:
        raise ArtifactError("it gives a tensor hooks")
    hooks.is_sealed = True


def _refuse_beyond(storage: StorageClaim, item_size: int, at: object, shape: object, strides: object) -> None:
    """Refuse a tensor that stands for more than its memory holds."""
    if not (_is_size(at) and _are_sizes(shape) and _are_sizes(strides) and len(shape) == len(strides)):
        raise ArtifactError("it holds a tensor whose offset, shape or strides are not whole numbers from 0 on")
    last = at + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    count = math.prod(shape)
    if (count and (last + 1) * item_size > storage.nbytes) or max(count, at) * item_size > storage.nbytes:
        raise ArtifactError(
            f"it holds a tensor of shape {shape} with strides {strides} at {at}, in memory of {storage.nbytes} bytes"
        )


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _LARGEST


def _are_sizes(values: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(values, tuple) and len(values) <= MOST_DIMENSIONS and all(map(_is_size, values))
