"""From some rows of an array to a tensor."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["FLOAT_DTYPES", "as_tensor", "why_no_tensor"]

FLOAT_DTYPES = {
    "float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64,
}  # fmt: skip
_TAKEN = frozenset({"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"})


def as_tensor(rows: "np.ndarray[Any, Any]", float_dtype: torch.dtype | None) -> Tensor:
    """A tensor of the rows' shape with memory of its own.

    Args:
        rows: of a dtype that `why_no_tensor` has nothing against, in any byte order and layout.
        float_dtype: what a float array becomes; None keeps its dtype.
    """
    tensor = torch.from_numpy(np.array(rows, dtype=rows.dtype.newbyteorder("="), order="C"))
    return tensor.to(float_dtype) if float_dtype is not None and tensor.is_floating_point() else tensor


def why_no_tensor(dtype: "np.dtype[Any]") -> str | None:
    """Why arrays of a dtype are not taken, and what to do; None when they are.

    torch has the names uint16, uint32 and uint64, and next to no operations on them.
    """
    if dtype.newbyteorder("=").name in _TAKEN:
        return None
    if dtype.hasobject:
        return "Python objects cannot become tensors; give an array of numbers, as np.stack makes of rows of one shape"
    if dtype.kind == "u":
        return 'models cannot compute with it in torch; convert it with .astype("int64")'
    if dtype.kind == "f":
        return 'torch has no such type; convert it with .astype("float64")'
    return f"calibration data has floats, integers or booleans: {', '.join(sorted(_TAKEN))}"
