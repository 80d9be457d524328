"""Working through a large tensor a piece at a time, so that what is computed on the way takes little memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["BLOCK_ELEMENTS", "row_blocks", "scratch_blocks"]

BLOCK_ELEMENTS = 2**18
"""How many elements a piece has, about."""


def row_blocks(rows: Tensor) -> Iterator[slice]:
    """Slices of the first axis that hold about 260,000 elements each, at least one row; all of them together."""
    count = rows.shape[0]
    step = max(1, BLOCK_ELEMENTS * count // max(1, rows.numel()))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def scratch_blocks(rows: Tensor, dtype: torch.dtype = torch.float32) -> Iterator[tuple[slice, Tensor]]:
    """The same slices, each with room of its shape and layout to compute in: always the same memory.

    New memory for each piece can take longer than the arithmetic, since the system clears it page by page.
    """
    scratch: Tensor | None = None
    for block in row_blocks(rows):
        if scratch is None:
            scratch = torch.empty_like(rows[block], dtype=dtype)
        yield block, scratch[: block.stop - block.start]
