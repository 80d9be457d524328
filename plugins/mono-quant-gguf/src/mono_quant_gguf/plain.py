"""Tensors that are no codes: as the types that GGUF has, with a note of what those do not say."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType
from mono_quant.errors import ArtifactError
from torch import Tensor

__all__ = ["Note", "as_array", "as_tensor", "note_of", "why_not_plain"]

Array = np.ndarray[Any, Any]
Note = dict[str, Any]
"""``{"dtype": ..., "shape": [...]}`` of a tensor whose dtype or shape GGUF has not."""

_MOST_AXES = 4
_TYPES = {
    torch.float32: GGMLQuantizationType.F32,
    torch.float16: GGMLQuantizationType.F16,
    torch.bfloat16: GGMLQuantizationType.BF16,
    torch.float64: GGMLQuantizationType.F64,
    torch.int8: GGMLQuantizationType.I8,
    torch.int16: GGMLQuantizationType.I16,
    torch.int32: GGMLQuantizationType.I32,
    torch.int64: GGMLQuantizationType.I64,
    torch.uint8: GGMLQuantizationType.I8,
    torch.bool: GGMLQuantizationType.I8,
}
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _TYPES}
_OF_TYPE = {kind: dtype for dtype, kind in reversed(_TYPES.items())}


def why_not_plain(tensor: Tensor) -> str:
    """Why a tensor has no place in a file; empty when it has."""
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        return f"is {tensor.layout}, {tensor.dtype} on {tensor.device}: only plain dense tensors can be stored"
    return "" if tensor.dtype in _TYPES else f"is {tensor.dtype}, which has no place in GGUF"


def note_of(tensor: Tensor) -> Note | None:
    """What must be written down of a tensor; None when its type and shape say all."""
    if tensor.dtype not in (torch.uint8, torch.bool) and 0 < tensor.ndim <= _MOST_AXES:
        return None
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}


def as_array(tensor: Tensor) -> tuple[Array, GGMLQuantizationType]:
    """The numbers of a tensor, and their type in the file; of no axes or too many in another shape."""
    kind = _TYPES[tensor.dtype]
    tensor = tensor.detach().cpu().contiguous()
    if not 0 < tensor.ndim <= _MOST_AXES:
        tensor = tensor.reshape(-1)
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy(), kind
    return (tensor.view(torch.int8) if kind == GGMLQuantizationType.I8 else tensor).numpy(), kind


def as_tensor(array: Array, kind: GGMLQuantizationType, note: Mapping[str, Any] | None) -> Tensor:
    """The other way round, from what `gguf.GGUFReader` gives; the tensor shares its memory.

    Raises:
        ArtifactError: when the type is none of these, or does not go together with the note.
    """
    if kind not in _OF_TYPE:
        raise ArtifactError(f"it is {kind.name}: blocks are read where a manifest of mono_quant tells of them")
    tensor = torch.from_numpy(array)
    if kind == GGMLQuantizationType.BF16:
        tensor = tensor.view(torch.bfloat16)
    if note is None:
        return tensor
    dtype, shape = _DTYPES.get(str(note.get("dtype"))), note.get("shape")
    if dtype is None or _TYPES[dtype] != kind or not isinstance(shape, list):
        raise ArtifactError(f"its type {kind.name} does not go together with the note {dict(note)}")
    try:
        shaped = tensor.reshape(shape)
    except (RuntimeError, TypeError) as error:
        raise ArtifactError(
            f"its shape {list(tensor.shape)} does not go together with the note {dict(note)}"
        ) from error
    return shaped != 0 if dtype == torch.bool else shaped.view(dtype)
