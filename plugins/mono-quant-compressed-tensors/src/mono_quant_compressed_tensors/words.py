"""Codes of a few bits in 32-bit words: the bytes of mono_quant's own packing, filled up to whole words."""

import torch
from mono_quant.core.packing import pack, packed_width, unpack
from torch import Tensor

__all__ = ["bytes_of", "pack_columns", "unpack_columns", "word_count", "words_of"]

_BYTES = 4


def word_count(count: int, bits: int) -> int:
    """Words that a row of ``count`` codes takes.

    >>> word_count(11, 3), word_count(8, 4)
    (2, 1)
    """
    return -(-packed_width(count, bits) // _BYTES)


def words_of(packed: Tensor) -> Tensor:
    """Uint8 ``(R, W)`` → int32 ``(R, ceil(W / 4))``, the lowest byte first."""
    rows, width = packed.shape
    whole = torch.zeros(rows, -(-width // _BYTES) * _BYTES, dtype=torch.uint8, device=packed.device)
    whole[:, :width] = packed
    return whole.view(torch.int32)


def bytes_of(words: Tensor, width: int) -> Tensor:
    """The other way round: int32 ``(R, n)`` → uint8 ``(R, width)``."""
    return words.contiguous().view(torch.uint8)[:, :width].contiguous()


def pack_columns(codes: Tensor, bits: int) -> Tensor:
    """Integers in ``[0, 2^bits)``, ``(R, C)`` → int32 ``(word_count(R, bits), C)``: each column is packed by itself."""
    return words_of(pack(codes.T, bits)).T.contiguous()


def unpack_columns(words: Tensor, count: int, bits: int) -> Tensor:
    """The other way round: int32 ``(n, C)`` → uint8 ``(count, C)``."""
    return unpack(bytes_of(words.T, packed_width(count, bits)), count, bits).T.contiguous()
