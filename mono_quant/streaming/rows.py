"""Quantizing a weight some rows at a time."""

from collections.abc import Iterator

import attrs
import torch
from torch import Tensor

from mono_quant.io.stored_weights import encode_weight
from mono_quant.plugin_api import WeightSpec
from mono_quant.streaming.piece import Piece, is_by_rows
from mono_quant.streaming.reader import RowReader

__all__ = ["BLOCK_ELEMENTS", "encoded_rows"]

BLOCK_ELEMENTS = 2**19
"""Twice as many as elsewhere: each block has a price of its own, that of some twenty calls of torch."""


def encoded_rows(piece: Piece, spec: WeightSpec, reader: RowReader) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """The tensors of the rows of a piece, a block at a time: the block's first row, tensors by suffix.

    Each row is stored as it would be with all others. Where that is not so, all rows are one block.

    Raises:
        ArtifactError: when they cannot be read.
        UnsupportedLayerError: when they are not finite.
    """
    first, last = piece.rows
    if not is_by_rows(spec):
        yield first, encode_weight(piece.name, reader.rows(piece.source, first, last), spec)
        return
    per_row = max(1, piece.source.row_bytes // piece.source.info.dtype.itemsize)
    step = max(1, BLOCK_ELEMENTS // per_row)
    scratch: Tensor | None = None
    for start in range(first, last, step):
        stop = min(start + step, last)
        weight = reader.rows(piece.source, start, stop)
        if spec.is_scaled and weight.dtype is not torch.float32:
            scratch = torch.empty_like(weight, dtype=torch.float32) if scratch is None else scratch
            weight = scratch[: stop - start].copy_(weight)
        yield start, encode_weight(piece.name, weight, attrs.evolve(spec, shape=weight.shape))
