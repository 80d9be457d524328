"""Which tensor is at fault in a safetensors file that was refused: the library often tells the bytes only."""

import json
from pathlib import Path

from mono_quant.io.checkpoint.tensor_info import DTYPE_CODES

__all__ = ["METADATA_KEY", "find_fault"]

METADATA_KEY = "__metadata__"
_LENGTH_BYTES = 8
_CODES = set(DTYPE_CODES.values())


def find_fault(path: Path) -> str:
    """The first tensor of an unknown dtype or with bytes that the file does not have, in words; empty when none is.

    The header is sound JSON, as far as `read_header` checks it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            entries = json.loads(file.read(min(length, size)))
        data_bytes = size - _LENGTH_BYTES - length
        for name, entry in entries.items():
            if name == METADATA_KEY:
                continue
            if entry["dtype"] not in _CODES:
                return f": tensor {name!r} is of dtype {entry['dtype']!r}, which torch does not have"
            if not 0 <= entry["data_offsets"][0] <= entry["data_offsets"][1] <= data_bytes:
                return f": tensor {name!r} is at bytes {entry['data_offsets']} of {data_bytes}"
    except (OSError, ValueError, TypeError, LookupError):  # an entry of other values than it should have
        return ""
    return ""
