"""What must stand in a file, from shapes alone, as docs/reference/file-format.md says it: slow and obvious arithmetic.

Nothing here is taken from mono_quant.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Literal

import attrs

__all__ = ["PARTS", "MisfitError", "Storage", "StoredTensor", "header_of", "input_tensors", "weight_tensors"]

_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I8": 1, "U8": 1, "I32": 4, "I64": 8}
PARTS = ("codes", "scales", "zero points", "other")
_BYTE = 8
_SMALLEST_GROUP = 16


class MisfitError(Exception):
    """The group does not divide a channel, and the user has not said what to do then."""


@attrs.frozen(kw_only=True)
class Storage:
    """How a scheme stores a weight.

    Args:
        codes: the safetensors dtype of the codes; of packed ones ``"U8"``.
        bits: of each code.
        scales: which weights share one; None where there are none.
        is_symmetric: whether there are no zero points.
        group: neighbours that share a scale.
        misfit: what happens where the group does not divide a channel.
    """

    codes: str
    bits: int
    scales: Literal["tensor", "channel", "group"] | None = "channel"
    is_symmetric: bool = True
    group: int = 128
    misfit: Literal["error", "pad", "adjust"] = "error"


@attrs.frozen
class StoredTensor:
    """One tensor of a file."""

    part: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count * _ITEM_BYTES[self.dtype]


def weight_tensors(name: str, shape: tuple[int, ...], axis: int, storage: Storage) -> dict[str, StoredTensor]:
    """The tensors of one weight, by name.

    Args:
        name: of the weight.
        shape: of the weight.
        axis: of its channels; where all share one scale, each index along the first axis is packed by itself.
        storage: how it is stored.

    Raises:
        MisfitError: when its groups do not fit.
    """
    axis = 0 if storage.scales == "tensor" else axis
    channels, each = shape[axis], 1
    for index, size in enumerate(shape):
        if index != axis:
            each *= size
    scale_shapes = {"tensor": (), "channel": (channels,), "group": (channels, _groups(each, storage))}
    in_file = shape if storage.bits >= _BYTE else (channels, _bytes_for(each * storage.bits))
    tensors = {name: StoredTensor("codes", storage.codes, in_file)}
    if storage.scales is not None:
        scale_shape = scale_shapes[storage.scales]
        tensors[f"{name}_scale"] = StoredTensor("scales", "F32", scale_shape)
        if not storage.is_symmetric:
            tensors[f"{name}_zero_point"] = StoredTensor("zero points", "I8", scale_shape)
    return tensors


def input_tensors(prefix: str) -> dict[str, StoredTensor]:
    """Those of an input whose range is known before."""
    return {
        f"{prefix}input_scale": StoredTensor("scales", "F32", ()),
        f"{prefix}input_zero_point": StoredTensor("zero points", "I32", ()),
    }


def header_of(tensors: Mapping[str, StoredTensor], order: Iterable[str], metadata: Mapping[str, str]) -> bytes:
    """The header of a safetensors file: JSON, filled up with spaces to a multiple of 8 bytes.

    Args:
        tensors: what must stand in the file.
        order: their names, in the order in which the file has them; a name that is not expected is left out.
        metadata: the texts beside them.
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        if name in tensors:
            begin, end = end, end + tensors[name].nbytes
            entries[name] = {
                "dtype": tensors[name].dtype,
                "shape": tensors[name].shape,
                "data_offsets": [begin, end],
            }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    while len(text) % _BYTE:
        text += b" "
    return text


def _groups(each: int, storage: Storage) -> int:
    """How many groups a channel has."""
    if storage.scales != "group":
        return 1
    size = storage.group
    if each % size and storage.misfit == "error":
        raise MisfitError
    if each % size and storage.misfit == "adjust":
        size = min(size, each)
        while size >= _SMALLEST_GROUP and each % size:
            size -= 1
        if size < _SMALLEST_GROUP:
            size = each
    groups, left = 0, each
    while left > 0:
        groups, left = groups + 1, left - size
    return groups


def _bytes_for(bits: int) -> int:
    whole, rest = divmod(bits, _BYTE)
    return whole + 1 if rest else whole
