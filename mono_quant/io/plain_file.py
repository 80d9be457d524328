"""Reading what ``torch.save`` wrote, when that is tensors, text, numbers, lists and dictionaries and nothing else."""

from pathlib import Path
from typing import Any, BinaryIO

import torch

from mono_quant.errors import ArtifactError
from mono_quant.io.limits import largest_text, most_values, opened
from mono_quant.io.pickle_reader import PickleReader
from mono_quant.io.tensor_claims import TensorClaims
from mono_quant.io.zip_records import read_records

__all__ = ["read_plain", "refuse_other_than_plain"]

_ZIP = b"PK\3\4"
_MAGIC = b"\x80\2\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""What files of torch before 1.6 begin with: a pickled number."""


def read_plain(path: Path) -> Any:  # noqa: ANN401 - whatever was saved
    """What ``torch.load(weights_only=True)`` reads from a file, which is checked first.

    Raises:
        ArtifactError: when the file holds anything else than plain tensors, or less bytes than it claims.
        Exception: whatever torch raises for a file that is damaged in other ways.
    """
    with opened(path) as (file, size):
        refuse_other_than_plain(file, size)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=False)


def refuse_other_than_plain(file: BinaryIO, size: int) -> None:
    """Check all that torch would believe: who is called, and that each tensor's memory is there.

    Raises:
        ArtifactError: saying what it is.
    """
    head = file.read(len(_MAGIC))
    if head.startswith(_ZIP):
        _check_zip(file, size)
    elif head == _MAGIC:
        _check_old(file, size)
    else:
        raise ArtifactError("it does not begin as torch.save begins a file")


def _check_zip(file: BinaryIO, size: int) -> None:
    """The format since torch 1.6: a zip archive with the pickle and each storage as its records."""
    records = read_records(file, size)
    if "constants.pkl" in records:
        raise ArtifactError("it is a TorchScript archive, which holds code")
    if "data.pkl" not in records:
        raise ArtifactError("it has no record 'data.pkl'")
    record = records["data.pkl"]
    length = record.end - record.start
    if length > largest_text(size):
        raise ArtifactError(f"its pickle has {length:,} bytes; {largest_text(size):,} are the most beside its tensors")
    file.seek(record.start)
    claims = TensorClaims()
    _reader(file.read(length), size, claims).read()
    for key, storage in claims.storages.items():
        found = records.get(f"data/{key}")
        if found is None or found.end - found.start != storage.nbytes:
            raise ArtifactError(
                f"it claims {storage.nbytes:,} bytes for the memory {key!r}, which its records do not have"
            )


def _check_old(file: BinaryIO, size: int) -> None:
    """The format before: five pickles (mark, version, machine, content, keys), then each storage behind its length."""
    file.seek(0)
    claims = TensorClaims(extras=1)
    reader = _reader(file.read(min(size, largest_text(size))), size, claims)
    _, _, _, _, keys = (reader.read() for _ in range(5))
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(claims.storages):
        raise ArtifactError("the list of its storages is damaged")
    at = reader.source.at
    for key in keys:
        storage = claims.storages[key]
        file.seek(at)
        at += 8 + storage.nbytes
        if int.from_bytes(file.read(8), "little") != storage.count or at > size:
            raise ArtifactError(f"it claims {storage.nbytes:,} bytes for the memory {key!r}, which it has not")
    if at != size:
        raise ArtifactError("it has something behind its end")


def _reader(data: bytes, size: int, claims: TensorClaims) -> PickleReader:
    return PickleReader(data, steps=most_values(size), call=claims.call, refer=claims.refer)
