"""The records of a zip archive as ``torch.save`` writes it, and of no other.

Python's and torch's readers of zip files differ in what they make of an odd archive. Here only one reading is
possible: the directory is the end of the file, nothing is compressed, and the records lie apart from each other in
front of it. The sum of their sizes is then at most that of the file.
(Layout: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, section 4.3.)
"""

import struct
from itertools import pairwise
from typing import BinaryIO

import attrs

from mono_quant.errors import ArtifactError
from mono_quant.io.limits import MOST_TENSORS, largest_text

__all__ = ["Record", "read_records"]

_END = struct.Struct("<4s4H2LH")
_LOCATOR64 = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_EXTRA64 = 1
_IN_EXTRA = 0xFFFFFFFF
_KNOWN_FLAGS = 0x808
"""Sizes follow the bytes; the name is UTF-8."""
_MOST_RECORDS = MOST_TENSORS + 100


@attrs.frozen
class Record:
    """Where one record lies in the file: its header, its bytes and what follows them."""

    header: int
    start: int
    end: int


def read_records(file: BinaryIO, size: int) -> dict[str, Record]:
    """The records of an archive by name, without the name of the folder that all of them are in.

    Args:
        file: open for reading.
        size: of the file.

    Raises:
        ArtifactError: when it is not such an archive.
        struct.error: when it ends too early.
    """
    start, end, count = _directory(file, size)
    if count > _MOST_RECORDS or end - start > largest_text(size):
        raise ArtifactError(f"it claims {count:,} records; {_MOST_RECORDS:,} are the most that are read")
    directory = _bytes(file, start, end - start)
    records: dict[str, Record] = {}
    at = 0
    for _ in range(count):
        name, record, at = _record(file, directory, at)
        records[name] = record
    folders = {name.partition("/")[0] for name in records}
    # torch looks for names without regard to case.
    is_odd = at != len(directory) or len(folders) != 1 or not all(map(str.isprintable, records))
    if is_odd or len({name.lower() for name in records}) != count:
        raise ArtifactError("the directory of its records is not as torch writes it")
    by_place = sorted(records.values(), key=lambda record: record.header)
    if any(one.end > other.header for one, other in pairwise(by_place)) or by_place[-1].end > start:
        raise ArtifactError("its records overlap")
    return {name.partition("/")[2]: record for name, record in records.items()}


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where the directory begins and ends, and the number of its entries."""
    end = size - _END.size
    mark, disk, first_disk, here, count, length, start, comment = _END.unpack(_bytes(file, end, _END.size))
    odd = mark != b"PK\5\6" or disk or first_disk or comment or here != count
    if end >= _LOCATOR64.size:
        mark, disk, place, disks = _LOCATOR64.unpack(_bytes(file, end - _LOCATOR64.size, _LOCATOR64.size))
        if mark == b"PK\6\7":
            end -= _LOCATOR64.size + _END64.size
            mark, rest, _, _, first, second, here, count, length, start = _END64.unpack(_bytes(file, end, _END64.size))
            odd |= place != end or disk or disks != 1 or mark != b"PK\6\6" or rest != _END64.size - 12
            odd |= first or second or here != count
    if odd or start + length != end or length < count * _ENTRY.size or not count:
        raise ArtifactError("it does not end with the directory of a zip archive: it is cut off or damaged")
    return start, end, count


def _record(file: BinaryIO, directory: bytes, at: int) -> tuple[str, Record, int]:
    """Name and place of the record that the entry at ``at`` describes, and where the next entry begins."""
    (mark, _, _, flags, method, _, _, _, packed, length, name_length, extra_length, comment, disk, _, _, header) = (
        _ENTRY.unpack_from(directory, at)
    )
    at += _ENTRY.size
    raw_name = directory[at : at + name_length]
    extra = directory[at + name_length : at + name_length + extra_length]
    at += name_length + extra_length
    length, packed, header = _wide(extra, (length, packed, header))
    if mark != b"PK\1\2" or comment or disk:
        raise ArtifactError("the directory of its records is damaged")
    name = raw_name.decode("ascii")
    if method or flags & ~_KNOWN_FLAGS or packed != length:
        raise ArtifactError(f"record {name!r} is compressed or encrypted, which torch.save never does")
    local = _LOCAL.unpack(_bytes(file, header, _LOCAL.size))
    if local[0] != b"PK\3\4" or local[3] or _bytes(file, header + _LOCAL.size, local[9]) != raw_name:
        raise ArtifactError(f"record {name!r} is not where the directory says")
    start = header + _LOCAL.size + local[9] + local[10]
    return name, Record(header, start, start + length), at


def _wide(extra: bytes, narrow: tuple[int, int, int]) -> tuple[int, int, int]:
    """Size, packed size and place, those that need 64 bits from the extra field."""
    while extra and _IN_EXTRA in narrow:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == _EXTRA64:
            wide = iter(struct.unpack_from(f"<{narrow.count(_IN_EXTRA)}Q", extra, 4))
            size, packed, place = (next(wide) if value == _IN_EXTRA else value for value in narrow)
            return size, packed, place
        extra = extra[4 + length :]
    return narrow


def _bytes(file: BinaryIO, start: int, length: int) -> bytes:
    if start < 0:
        raise ArtifactError("it is cut off")
    file.seek(start)
    return file.read(length)
