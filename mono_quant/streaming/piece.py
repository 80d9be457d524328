"""The smallest part of the work: some rows of one tensor, from bytes of one file to bytes of another."""

from collections.abc import Mapping

import attrs
import torch

from mono_quant.core.granularity import PerTensor
from mono_quant.io.checkpoint import TensorInfo
from mono_quant.io.checkpoint.place import Place
from mono_quant.plugin_api import WeightSpec

__all__ = ["Piece", "Unit", "as_bytes", "is_by_rows"]


@attrs.frozen(kw_only=True)
class Piece:
    """What is read, how it is stored, and where that is written.

    Args:
        name: of the tensor.
        source: of all its rows; of what is copied, its bytes.
        rows: the first of them, and the one after the last.
        spec: of a weight that is quantized; None copies.
        targets: name → place of each tensor that it becomes.
    """

    name: str
    source: Place
    rows: tuple[int, int]
    spec: WeightSpec | None
    targets: Mapping[str, Place]

    @property
    def nbytes(self) -> int:
        """Bytes that are read."""
        return (self.rows[1] - self.rows[0]) * self.source.row_bytes


@attrs.frozen
class Unit:
    """Pieces of one output file that are done by one process, and begun again when it did not come to their end.

    Args:
        number: counted over all files.
        pieces: in the order in which they are done.
    """

    number: int
    pieces: tuple[Piece, ...]


def is_by_rows(spec: WeightSpec) -> bool:
    """Whether rows of a weight can be quantized without the others: no scale is of more than one row."""
    is_along_rows = spec.axis % len(spec.shape) == 0 and not isinstance(spec.granularity, PerTensor)
    return is_along_rows or not spec.is_scaled


def as_bytes(place: Place) -> Place:
    """The same bytes as a tensor of bytes, of which any part is some rows."""
    return attrs.evolve(place, info=TensorInfo(torch.uint8, (place.info.nbytes,)))
