"""The integer types that codes are stored in."""

import attrs
import torch

from mono_quant.errors import ConfigurationError

__all__ = ["INT8", "UINT8", "QType", "as_qtype"]


@attrs.frozen
class QType:
    """An integer code type: codes lie in ``[qmin, qmax]`` and are stored as ``storage``.

    >>> INT8.qmin, INT8.qmax
    (-128, 127)
    """

    name: str
    qmin: int
    qmax: int
    storage: torch.dtype


INT8 = QType("int8", -128, 127, torch.int8)
UINT8 = QType("uint8", 0, 255, torch.uint8)

# torch's own quantized dtypes are accepted as names for the plain ones, by name: one day torch will not have them.
_BY_NAME = {"int8": INT8, "qint8": INT8, "uint8": UINT8, "quint8": UINT8}


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
        message = f"{dtype!r} is not an integer code type; use 'int8' or 'uint8'"
        raise ConfigurationError(message) from None
