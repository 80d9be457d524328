"""The types that numbers are stored in once they are quantized."""

import attrs
import torch

from mono_quant.errors import ConfigurationError

__all__ = ["BFLOAT16", "FLOAT8_E4M3", "FLOAT16", "INT8", "UINT8", "QType", "as_qtype", "int_type"]


@attrs.frozen
class QType:
    """A code type: codes lie in ``[qmin, qmax]``, take ``bits`` bits each and are kept in tensors of dtype ``storage``.

    Codes of fewer than 8 bits are packed into bytes, see `mono_quant.core.packing`.

    >>> INT8.qmin, INT8.qmax
    (-128, 127)
    >>> int_type(4)
    QType(name='int4', qmin=-8, qmax=7, storage=torch.uint8, bits=4)
    """

    name: str
    qmin: int
    qmax: int
    storage: torch.dtype
    bits: int

    @property
    def is_float(self) -> bool:
        """Whether the codes are themselves floating-point numbers."""
        return self.storage.is_floating_point

    @property
    def is_packed(self) -> bool:
        """Whether several codes share a byte."""
        return self.bits < 8  # noqa: PLR2004 - the bits of a byte


INT8 = QType("int8", -128, 127, torch.int8, 8)
UINT8 = QType("uint8", 0, 255, torch.uint8, 8)
FLOAT16 = QType("float16", -65504, 65504, torch.float16, 16)
BFLOAT16 = QType(
    "bfloat16", int(torch.finfo(torch.bfloat16).min), int(torch.finfo(torch.bfloat16).max), torch.bfloat16, 16
)
FLOAT8_E4M3 = QType("float8_e4m3", -448, 448, torch.float8_e4m3fn, 8)


def int_type(bits: int) -> QType:
    """The signed integer of 2 to 8 bits.

    Raises:
        ConfigurationError: when there is none of that width.
    """
    if bits not in range(2, 9):
        raise ConfigurationError(f"codes have 2 to 8 bits, got {bits!r}")
    return (
        INT8 if bits == INT8.bits else QType(f"int{bits}", -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, torch.uint8, bits)
    )


_TYPES = (*map(int_type, range(2, 9)), UINT8, FLOAT16, BFLOAT16, FLOAT8_E4M3)
# torch's own quantized dtypes are accepted as names for the plain ones, by name: one day torch will not have them.
_BY_NAME = {qtype.name: qtype for qtype in _TYPES} | {"qint8": INT8, "quint8": UINT8, "float8_e4m3fn": FLOAT8_E4M3}


def as_qtype(dtype: str | torch.dtype | QType) -> QType:
    """Normalise a name or a torch dtype to a `QType`.

    Raises:
        ConfigurationError: when the type is not one that codes are stored in.
    """
    if isinstance(dtype, QType):
        return dtype
    try:
        return _BY_NAME[str(dtype).removeprefix("torch.")]
    except KeyError:
        message = f"{dtype!r} is not a type of codes; there are {', '.join(qtype.name for qtype in _TYPES)}"
        raise ConfigurationError(message) from None
