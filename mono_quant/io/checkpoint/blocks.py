"""Writing a tensor's elements without a second copy of it."""

import ctypes
from collections.abc import Iterator
from typing import BinaryIO

from torch import Tensor

from mono_quant.core.blocks import BLOCK_ELEMENTS, row_blocks

__all__ = ["write_tensor"]


def write_tensor(tensor: Tensor, file: BinaryIO) -> None:
    """Append the elements in C order, whatever the strides and the device."""
    for block in _blocks(tensor.detach()):
        plain = block.cpu().resolve_conj().resolve_neg().contiguous()
        file.write((ctypes.c_char * plain.nbytes).from_address(plain.data_ptr()) if plain.numel() else b"")


def _blocks(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor itself where its memory is what is written, and pieces of it that are small elsewhere."""
    is_memory = tensor.is_contiguous() and tensor.is_cpu and not tensor.is_conj() and not tensor.is_neg()
    if is_memory or tensor.numel() <= BLOCK_ELEMENTS:
        yield tensor
    elif len(tensor) == 1:
        yield from _blocks(tensor[0])
    else:
        for rows in row_blocks(tensor):
            yield from _blocks(tensor[rows])
