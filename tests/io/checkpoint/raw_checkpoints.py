"""Checkpoints written byte by byte, so that anything can be wrong with them."""

import json
from pathlib import Path
from typing import Any


def entry(dtype: str = "F32", shape: tuple[int, ...] = (2,), begin: int = 0, end: int = 8) -> dict[str, Any]:
    """What a safetensors header says of one tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_bytes(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file; the header is JSON values or the very bytes, its length true unless one is given."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def write_index_of(folder: Path, weight_map: object, **others: object) -> Path:
    """An index that says whatever it is told to."""
    path = folder / "m.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 8}, "weight_map": weight_map} | others))
    return path
