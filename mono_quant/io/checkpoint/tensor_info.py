"""What is known of a stored tensor before its data are read."""

import math
from collections.abc import Iterable

import attrs
import torch
from attrs.validators import and_, deep_iterable, ge, instance_of
from torch import Tensor

__all__ = ["DTYPE_CODES", "TensorInfo"]

DTYPE_CODES: dict[torch.dtype, str] = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The names that safetensors gives to dtypes, in the order in which the library lays tensors out: the widest first.

Its ``F4`` and ``F6`` are not here: they count elements of which several share a byte, and torch has no such dtypes.
"""


def _as_sizes(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(shape)


@attrs.frozen
class TensorInfo:
    """Dtype and shape of a tensor.

    Args:
        dtype: a torch dtype.
        shape: any number of sizes, zeros among them.
    """

    dtype: torch.dtype = attrs.field(validator=instance_of(torch.dtype))
    shape: tuple[int, ...] = attrs.field(converter=_as_sizes, validator=deep_iterable(and_(instance_of(int), ge(0))))

    @classmethod
    def of(cls, tensor: Tensor) -> "TensorInfo":
        """That of a tensor at hand."""
        return cls(tensor.dtype, tensor.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements, each stored once."""
        return self.dtype.itemsize * math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"
