"""Codes of 2 to 7 bits in bytes, without a gap: code i of a row takes bits ``i·B … i·B + B - 1``, lowest bit first.

So of two 4-bit codes in a byte the first is in the low half, and the codes of 3, 5, 6 and 7 bits cross bytes. A row
starts on a byte of its own; the bits after its last code are zero.
"""

from math import lcm

import torch
from torch import Tensor

__all__ = ["pack", "packed_width", "unpack"]

_BYTE = 8


def packed_width(count: int, bits: int) -> int:
    """Bytes that a row of ``count`` codes takes.

    >>> packed_width(5, 4), packed_width(8, 3)
    (3, 3)
    """
    return -(-count * bits // _BYTE)


def pack(codes: Tensor, bits: int) -> Tensor:
    """``(R, K)`` of integers in ``[0, 2^bits)`` → uint8 ``(R, packed_width(K, bits))``.

    >>> pack(torch.tensor([[1, 2, 3]]), 4)
    tensor([[33,  3]], dtype=torch.uint8)
    """
    rows, count = codes.shape
    per_word, bytes_per_word, dtype = _word(bits)
    words = -(-count // per_word)
    padded = torch.zeros(rows, words * per_word, dtype=dtype, device=codes.device)
    padded[:, :count] = codes
    shifts = torch.arange(per_word, dtype=dtype, device=codes.device) * bits
    word = (padded.view(rows, words, per_word) << shifts).sum(dim=2, dtype=dtype)
    byte_shifts = torch.arange(bytes_per_word, dtype=dtype, device=codes.device) * _BYTE
    in_bytes = ((word[:, :, None] >> byte_shifts) & (2**_BYTE - 1)).to(torch.uint8)
    packed: Tensor = in_bytes.view(rows, words * bytes_per_word)[:, : packed_width(count, bits)].contiguous()
    return packed


def unpack(packed: Tensor, count: int, bits: int) -> Tensor:
    """Uint8 ``(R, packed_width(count, bits))`` → uint8 ``(R, count)`` of integers in ``[0, 2^bits)``.

    >>> unpack(torch.tensor([[33, 3]], dtype=torch.uint8), 3, 4)
    tensor([[1, 2, 3]], dtype=torch.uint8)
    """
    rows, width = packed.shape
    per_word, bytes_per_word, dtype = _word(bits)
    words = -(-count // per_word)
    padded = torch.zeros(rows, words * bytes_per_word, dtype=dtype, device=packed.device)
    padded[:, :width] = packed
    byte_shifts = torch.arange(bytes_per_word, dtype=dtype, device=packed.device) * _BYTE
    word = (padded.view(rows, words, bytes_per_word) << byte_shifts).sum(dim=2, dtype=dtype)
    shifts = torch.arange(per_word, dtype=dtype, device=packed.device) * bits
    codes = ((word[:, :, None] >> shifts) & (2**bits - 1)).to(torch.uint8)
    unpacked: Tensor = codes.view(rows, words * per_word)[:, :count]
    return unpacked


def _word(bits: int) -> tuple[int, int, torch.dtype]:
    """The fewest bytes that hold a whole number of codes: ``(codes, bytes, dtype to compute in)``."""
    in_bits = lcm(bits, _BYTE)
    return in_bits // bits, in_bits // _BYTE, torch.uint8 if in_bits == _BYTE else torch.int64
