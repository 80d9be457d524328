"""Damage that knows nothing of what it damages."""

import struct
from random import Random

NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    127,
    128,
    255,
    256,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
]


def flip_bits(content: bytes, random: Random) -> bytes:
    """One to sixteen bits."""
    changed = bytearray(content)
    for _ in range(2 ** random.randrange(5)):
        changed[_place(changed, random)] ^= 1 << random.randrange(8)
    return bytes(changed)


def set_bytes(content: bytes, random: Random) -> bytes:
    """One byte to any other."""
    changed = bytearray(content)
    changed[_place(changed, random)] = random.randrange(256)
    return bytes(changed)


def set_number(content: bytes, random: Random) -> bytes:
    """A number of two, four or eight bytes."""
    changed, layout = bytearray(content), random.choice(["<H", "<I", "<Q", ">I"])
    size = struct.calcsize(layout)
    struct.pack_into(layout, changed, random.randrange(len(changed) - size), random.choice(NUMBERS) % 2 ** (8 * size))
    return bytes(changed)


def cut_off(content: bytes, random: Random) -> bytes:
    """The end is missing."""
    return content[: _place(content, random)]


def remove(content: bytes, random: Random) -> bytes:
    """A piece in the middle is missing."""
    start = _place(content, random)
    return content[:start] + content[start + random.randrange(1, 200) :]


def repeat(content: bytes, random: Random) -> bytes:
    """A piece is there again, somewhere."""
    start, to = _place(content, random), _place(content, random)
    return content[:to] + content[start : start + random.randrange(1, 200)] + content[to:]


def move(content: bytes, random: Random) -> bytes:
    """A piece is written over another one."""
    start, to, size = _place(content, random), _place(content, random), random.randrange(1, 64)
    piece = content[start : start + size]
    return content[:to] + piece + content[to + len(piece) :]


def insert(content: bytes, random: Random) -> bytes:
    """Random bytes, somewhere."""
    to = _place(content, random)
    return content[:to] + random.randbytes(random.randrange(1, 40)) + content[to:]


MUTATIONS = [flip_bits, flip_bits, set_bytes, set_number, cut_off, remove, repeat, move, insert]


def _place(content: bytes | bytearray, random: Random) -> int:
    """Anywhere, and half of the time at one of the ends, where the structure is."""
    near = min(len(content), 600)
    choices = [random.randrange(len(content)), random.randrange(near), len(content) - 1 - random.randrange(near)]
    return random.choice([choices[0], *choices])
