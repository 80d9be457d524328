"""Codes of 2 to 7 bits in bytes, without a gap: code i of a row takes bits ``i·B … i·B + B - 1``, lowest bit first.

So of two 4-bit codes in a byte the first is in the low half, and the codes of 3, 5, 6 and 7 bits cross bytes. A row
starts on a byte of its own; the bits after its last code are zero.

Eight codes, a byte each, are one 64-bit number here (of a little-endian machine, as the files are): codes are moved
beside each other by halves of pairs, then of fours, then of eights, all numbers of a tensor at once.
"""

from collections.abc import Iterator
from math import lcm

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["pack", "packed_width", "unpack"]

_BYTE = 8
_NUMBER = 64
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


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
    per_word, bytes_per_word = _word(bits)
    words = _whole(count) // per_word
    padded = torch.zeros(rows, _whole(count), dtype=torch.uint8, device=codes.device)
    padded[:, :count] = codes
    number = padded.view(-1).view(torch.int64)
    for low, high, shift in _moves(bits, per_word):
        number = (number & low).bitwise_or_((number >> shift).bitwise_and_(high))
    if bytes_per_word == 1:
        in_bytes = number.view(_INTEGERS[per_word]).to(torch.uint8)
    else:
        in_words = number.view(torch.uint8).view(rows, words, per_word)
        in_bytes = torch.empty(rows, words, bytes_per_word, dtype=torch.uint8, device=codes.device)
        for byte in range(bytes_per_word):  # torch copies runs of few bytes slowly
            in_bytes[:, :, byte] = in_words[:, :, byte]
    return in_bytes.view(rows, words * bytes_per_word)[:, : packed_width(count, bits)].contiguous()


def unpack(packed: Tensor, count: int, bits: int) -> Tensor:
    """Uint8 ``(R, packed_width(count, bits))`` → uint8 ``(R, count)`` of integers in ``[0, 2^bits)``.

    >>> unpack(torch.tensor([[33, 3]], dtype=torch.uint8), 3, 4)
    tensor([[1, 2, 3]], dtype=torch.uint8)
    """
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:  # noqa: SLF001 - no typed public way
        return _unpack_by_arithmetic(packed, count, bits)
    rows = packed.shape[0]
    per_word, bytes_per_word = _word(bits)
    words = _whole(count) // per_word
    in_bytes = functional.pad(packed, (0, words * bytes_per_word - packed.shape[1]))
    if bytes_per_word == 1:
        number = in_bytes.to(_INTEGERS[per_word]).view(-1).view(torch.int64)
    else:
        in_words = torch.zeros(rows, words, per_word, dtype=torch.uint8, device=packed.device)
        for byte in range(bytes_per_word):
            in_words[:, :, byte] = in_bytes.view(rows, words, bytes_per_word)[:, :, byte]
        number = in_words.view(-1).view(torch.int64)
    for low, high, shift in reversed([*_moves(bits, per_word)]):
        number = (number & low).bitwise_or_((number & high).bitwise_left_shift_(shift))
    return number.view(torch.uint8).view(rows, words * per_word)[:, :count]


def _unpack_by_arithmetic(packed: Tensor, count: int, bits: int) -> Tensor:
    """The same without memory that is looked at as another type, which torch.jit cannot trace, nor a compiler fuse."""
    rows, width = packed.shape
    per_word, bytes_per_word = _word(bits)
    words = -(-count // per_word)
    dtype = torch.uint8 if bytes_per_word == 1 else torch.int64
    padded = torch.zeros(rows, words * bytes_per_word, dtype=dtype, device=packed.device)
    padded[:, :width] = packed
    byte_shifts = torch.arange(bytes_per_word, dtype=dtype, device=packed.device) * _BYTE
    word = (padded.view(rows, words, bytes_per_word) << byte_shifts).sum(dim=2, dtype=dtype)
    shifts = torch.arange(per_word, dtype=dtype, device=packed.device) * bits
    codes = ((word[:, :, None] >> shifts) & (2**bits - 1)).to(torch.uint8)
    unpacked: Tensor = codes.view(rows, words * per_word)[:, :count]
    return unpacked


def _word(bits: int) -> tuple[int, int]:
    """The fewest codes that fill whole bytes, and how many bytes."""
    in_bits = lcm(bits, _BYTE)
    return in_bits // bits, in_bits // _BYTE


def _whole(count: int) -> int:
    """So many codes are a whole number of 64-bit numbers."""
    return -(-count // _BYTE) * _BYTE


def _moves(bits: int, per_word: int) -> Iterator[tuple[int, int, int]]:
    """To move each second run of 1, 2, 4 codes beside the first: where the first is, where the second comes, how far.

    >>> [(hex(low), hex(high), shift) for low, high, shift in _moves(4, 2)]
    [('0xf000f000f000f', '0xf000f000f000f0', 4)]
    """
    run = 1
    while run < per_word:
        low = sum((2 ** (run * bits) - 1) << place for place in range(0, _NUMBER, 2 * run * _BYTE))
        yield low, low << run * bits, run * (_BYTE - bits)
        run *= 2
