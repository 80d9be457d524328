"""A saved file read byte by byte, and its weights decoded, as docs/reference/file-format.md describes them.

Nothing here is taken from mono_quant or safetensors.
"""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch

__all__ = ["LENGTH_BYTES", "StoredFile"]

LENGTH_BYTES = 8
_NUMPY = {
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "u1",
    "I8": "i1",
    "U8": "u1",
    "I32": "<i4",
    "I64": "<i8",
}
_FLOAT_CODES = ("float16", "bfloat16", "float8_e4m3")

Array = npt.NDArray[Any]


@attrs.frozen(slots=False)
class StoredFile:
    """A safetensors file."""

    content: bytes

    @classmethod
    def read(cls, path: Path) -> "StoredFile":
        return cls(path.read_bytes())

    @property
    def size(self) -> int:
        return len(self.content)

    @cached_property
    def header(self) -> bytes:
        """What stands between the length and the tensors."""
        length = int.from_bytes(self.content[:LENGTH_BYTES], "little")
        return self.content[LENGTH_BYTES : LENGTH_BYTES + length]

    @cached_property
    def entries(self) -> dict[str, Any]:
        """Tensor → dtype, shape and place, in the order of their places."""
        entries = {name: entry for name, entry in json.loads(self.header).items() if name != "__metadata__"}
        return dict(sorted(entries.items(), key=lambda item: item[1]["data_offsets"]))

    @cached_property
    def metadata(self) -> dict[str, str]:
        metadata: dict[str, str] = json.loads(self.header)["__metadata__"]
        return metadata

    def tensor(self, name: str) -> Array:
        """One tensor; of float8 and bfloat16 the bits."""
        entry = self.entries[name]
        begin, end = (LENGTH_BYTES + len(self.header) + offset for offset in entry["data_offsets"])
        return np.frombuffer(self.content[begin:end], _NUMPY[entry["dtype"]]).reshape(entry["shape"])

    def weights(self) -> dict[str, torch.Tensor]:
        """The float32 weights that the codes stand for, by the names of the codes."""
        layers = json.loads(self.metadata["mono_quant"])["layers"]
        records = {f"{layer}.{name}": spec for layer in layers for name, spec in layers[layer]["weights"].items()}
        return {name: torch.from_numpy(self._weight(name, record)) for name, record in records.items()}

    def _weight(self, name: str, record: Mapping[str, Any]) -> Array:
        """One of them; ``record`` is what the manifest says of it."""
        if record["dtype"] in {"float16", "bfloat16"}:
            return _float_codes(self.tensor(name), record["dtype"])
        grain, axis, size = _granularity(record["granularity"])
        shape = record["shape"]
        moved = [shape[axis], *shape[:axis], *shape[axis + 1 :]]
        each = int(np.prod(moved[1:]))
        codes_CK = self._codes(name, record["dtype"], axis, each)
        scale, zero_point = self.tensor(f"{name}_scale"), 0.0
        index: tuple[Any, ...] = ()
        if grain == "channel":
            index = (slice(None), None)
        elif grain == "group":
            index = (slice(None), np.arange(each) // size)
        if not record["symmetric"]:
            zero_point = self.tensor(f"{name}_zero_point")[index].astype(np.float64)
        # A code and a scale have 8 and 24 significant bits: their product is exact in float64, and rounded once.
        weight_CK = ((codes_CK - zero_point) * scale[index].astype(np.float64)).astype(np.float32)
        return np.moveaxis(weight_CK.reshape(moved), 0, axis)

    def _codes(self, name: str, dtype: str, axis: int, each: int) -> Array:
        """``(C, K)``, float64."""
        tensor = self.tensor(name)
        bits = 8 if dtype in {"int8", "float8_e4m3"} else int(dtype.removeprefix("int"))
        if bits == 8:
            codes = _float_codes(tensor, dtype) if dtype in _FLOAT_CODES else tensor
            return np.moveaxis(codes, axis, 0).reshape(-1, each).astype(np.float64)
        in_bits = np.unpackbits(tensor, axis=1, bitorder="little")
        if in_bits[:, each * bits :].any():
            raise ValueError(f"{name}: bits after the last code of a row are not 0")
        place_values = 2.0 ** np.arange(bits)
        codes_CK: Array = in_bits[:, : each * bits].reshape(-1, each, bits) @ place_values - 2 ** (bits - 1)
        return codes_CK


def _granularity(text: str) -> tuple[str, int, int]:
    """What shares a scale, the axis of the channels, and the size of a group."""
    if text == "per-tensor":
        return "tensor", 0, 0
    kind, numbers = re.fullmatch(r"per-(\w+)\((.+)\)", text).groups()  # type: ignore[union-attr]
    first, *rest = map(int, numbers.split(","))
    return (kind, first, 0) if kind == "channel" else (kind, rest[0] if rest else 0, first)


def _float_codes(numbers: Array, dtype: str) -> Array:
    """Float32 numbers for those of the three short types."""
    if dtype == "bfloat16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    floats: Array = _FLOAT8[numbers] if dtype == "float8_e4m3" else numbers.astype(np.float32)
    return floats


def _float8(bits: int) -> float:
    """E4M3: a sign, four bits of exponent with bias 7, three of mantissa."""
    exponent, mantissa = bits >> 3 & 15, bits & 7
    value = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
    return -value if bits >> 7 else value


_FLOAT8 = np.array([_float8(bits) for bits in range(256)], np.float32)
