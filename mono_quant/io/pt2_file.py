"""The tensors in a file of ``torch.export.save``, read without torch's reader, which runs what it finds.

Each memory is a record of raw bytes, and a table says which tensor lies where in it.
(Layout: https://docs.pytorch.org/docs/main/export/pt2_archive.html, and torch/_export/serde/schema.py.)
"""

import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mono_quant.errors import ArtifactError
from mono_quant.io.json_text import parse_object
from mono_quant.io.limits import MOST_DIMENSIONS, largest_text, opened
from mono_quant.io.zip_records import Record, read_records
from mono_quant.plugin_api.artifact import JSON, Artifact

__all__ = ["MANIFEST_FILE", "read_pt2"]

MANIFEST_FILE = "mono_quant.json"
"""The extra file that holds the manifest."""

_TABLE = "data/weights/model_weights_config.json"
_WEIGHTS = "data/weights/"
_EXTRA = "extra/"
_STRIDED = 7
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
    28: torch.uint16, 29: torch.float8_e4m3fn, 30: torch.float8_e5m2, 34: torch.uint32, 35: torch.uint64,
}  # fmt: skip
"""The numbers that torch writes for them."""


def read_pt2(path: Path) -> Artifact:
    """The ``state_dict`` of the model in the file, each shared tensor once, and our manifest where it has one.

    Raises:
        ArtifactError: when it is no such file, or one of a torch that laid it out otherwise.
    """
    try:
        with opened(path) as (file, size):
            return _read(file, size)
    except (OSError, struct.error, UnicodeDecodeError, ArtifactError, IndexError) as error:
        raise ArtifactError(f"{path} cannot be read as a .pt2 file: {error}") from error


def _read(file: BinaryIO, size: int) -> Artifact:
    records = read_records(file, size)
    if _TABLE not in records:
        raise ArtifactError(
            "it has no table of raw tensors: it is no file of torch.export.save, or one of another torch, and may "
            "still run: load it without a model"
        )
    table = _json(file, records[_TABLE], size, "its table of tensors").get("config")
    if not isinstance(table, dict):
        raise ArtifactError("its table of tensors is no mapping of their names")
    extra = records.get(_EXTRA + MANIFEST_FILE)
    manifest = None if extra is None else _json(file, extra, size, "its manifest")
    ties = manifest.get("ties") if manifest else None
    tied: Collection[str] = ties if isinstance(ties, dict) else ()
    memories: dict[str, bytearray] = {}
    tensors = {name: _tensor(name, entry, file, records, memories) for name, entry in table.items() if name not in tied}
    return Artifact(tensors, manifest)


def _json(file: BinaryIO, record: Record, size: int, what: str) -> dict[str, JSON]:
    if record.end - record.start > largest_text(size):
        raise ArtifactError(f"{what} is longer than what is read of a file of this size")
    return parse_object(_content(file, record).decode(), size, what)


def _content(file: BinaryIO, record: Record) -> bytearray:
    file.seek(record.start)
    return bytearray(file.read(record.end - record.start))


def _tensor(
    name: str, entry: object, file: BinaryIO, records: dict[str, Record], memories: dict[str, bytearray]
) -> Tensor:
    """One tensor; those of one record share its memory."""
    try:
        record, dtype, sizes, strides, offset = _entry(entry)
        if record not in memories:
            memories[record] = _content(file, records[_WEIGHTS + record])
    except (KeyError, TypeError, ValueError) as error:
        message = f"tensor {name!r} is not described as torch does: {type(error).__name__} {error}"
        raise ArtifactError(message) from error
    memory, count = memories[record], 1
    for size in sizes:
        count *= size
    end = offset + 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if not count:
        return torch.empty(sizes, dtype=dtype)
    if max(count, end) * dtype.itemsize > len(memory):
        raise ArtifactError(f"tensor {name!r} is larger than its record")
    whole = torch.frombuffer(memory, dtype=dtype, count=len(memory) // dtype.itemsize)
    return whole.as_strided(sizes, strides, offset)


def _entry(entry: Any) -> tuple[str, torch.dtype, list[int], list[int], int]:  # noqa: ANN401 - JSON
    """Record, dtype, sizes, strides and offset.

    Raises:
        KeyError: when something is missing.
        TypeError: when something is of another type.
        ValueError: when something cannot be.
    """
    meta = entry["tensor_meta"]
    sizes, strides = ([_integer(one) for one in meta[key]] for key in ("sizes", "strides"))
    record, dtype = entry["path_name"], _DTYPES[meta["dtype"]]
    if entry["use_pickle"] or meta["layout"] != _STRIDED:
        raise ValueError("it is no plain tensor")
    if len(sizes) != len(strides) or len(sizes) > MOST_DIMENSIONS or not isinstance(record, str):
        raise ValueError("its shape is odd")
    return record, dtype, sizes, strides, _integer(meta["storage_offset"])


def _integer(value: Any) -> int:  # noqa: ANN401 - JSON
    number = value["as_int"]
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**63:
        raise ValueError(f"{number!r} is no size")
    return number
