"""Quantized layers as operators that a translator can read: `mono_quant.runtimes.export_program`.

While a model is recorded, ``torch.export`` finds in each quantized layer the operator `int8_layer` of
`mono_quant.modules.compiled` and the three of this file, with the stored codes, scales and zero points as their
arguments, where it finds plain float operations otherwise.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from mono_quant.core import affine, encoding
from mono_quant.core.qtypes import UINT8
from mono_quant.core.tensor_spec import WeightSpec

__all__ = ["dequantize_rows", "dequantize_weight", "is_recording", "quantize", "recording"]

_is_recording = ContextVar("_is_recording", default=False)


@contextmanager
def recording() -> Iterator[None]:
    """Inside, quantized layers that are traced are operators."""
    token = _is_recording.set(True)
    try:
        yield
    finally:
        _is_recording.reset(token)


def is_recording() -> bool:
    """Whether this call is made there; never in Dynamo, which recording does without and which knows no context."""
    return not torch.compiler.is_dynamo_compiling() and _is_recording.get()


torch.library.define("mono_quant::quantize", "(Tensor x, Tensor scale, Tensor zero_point) -> Tensor")
torch.library.define(
    "mono_quant::dequantize_weight",
    "(Tensor codes, Tensor scale, Tensor? zero_point, str dtype, str granularity, int[] shape) -> Tensor",
)
torch.library.define(
    "mono_quant::dequantize_rows",
    "(Tensor codes, Tensor scale, Tensor? zero_point, Tensor indices, str dtype, str granularity, int[] shape) "
    "-> Tensor",
)


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """The uint8 codes of an input that has one scale, as one operator.

    Args:
        x: float32.
        scale: float32 ``()``.
        zero_point: int32 ``()``.
    """
    codes: Tensor = torch.ops.mono_quant.quantize(x, scale, zero_point)
    return codes


def dequantize_weight(stored: Mapping[str, Tensor], spec: WeightSpec) -> Tensor:
    """The float32 weight that stored tensors stand for, as one operator; of shape ``spec.shape``."""
    if not spec.is_scaled:
        return stored[""].float()
    how = spec.dtype.name, str(spec.granularity), list(spec.shape)
    weight: Tensor = torch.ops.mono_quant.dequantize_weight(*_tensors(stored), *how)
    return weight


def dequantize_rows(stored: Mapping[str, Tensor], spec: WeightSpec, indices: Tensor) -> Tensor:
    """Some channels of that weight, as one operator; float32 ``(n, K)``.

    Args:
        stored: tensors by suffix.
        spec: how they are stored.
        indices: int32 or int64 ``(n,)``.
    """
    if not spec.is_scaled:
        return stored[""].index_select(0, indices).float()
    how = spec.dtype.name, str(spec.granularity), list(spec.shape)
    rows: Tensor = torch.ops.mono_quant.dequantize_rows(*_tensors(stored), indices, *how)
    return rows


@torch.library.impl("mono_quant::quantize", "CPU")
def _quantize(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    return affine.quantize(x, scale, zero_point, UINT8)


@torch.library.register_fake("mono_quant::quantize")  # type: ignore[untyped-decorator]
def _codes(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    del scale, zero_point
    return torch.empty_like(x, dtype=torch.uint8)


@torch.library.impl("mono_quant::dequantize_weight", "CPU")
def _dequantize_weight(  # noqa: PLR0917 - an operator's arguments
    codes: Tensor, scale: Tensor, zero_point: Tensor | None, dtype: str, granularity: str, shape: Sequence[int]
) -> Tensor:
    spec = WeightSpec(dtype=dtype, symmetric=zero_point is None, granularity=granularity, shape=tuple(shape))
    return encoding.decode(_stored(codes, scale, zero_point), spec)


@torch.library.register_fake("mono_quant::dequantize_weight")  # type: ignore[untyped-decorator]
def _weight(  # noqa: PLR0917
    codes: Tensor, scale: Tensor, zero_point: Tensor | None, dtype: str, granularity: str, shape: Sequence[int]
) -> Tensor:
    del zero_point, dtype, granularity
    return torch.empty(list(shape), dtype=scale.dtype, device=codes.device)


@torch.library.impl("mono_quant::dequantize_rows", "CPU")
def _dequantize_rows(  # noqa: PLR0917
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    indices: Tensor,
    dtype: str,
    granularity: str,
    shape: Sequence[int],
) -> Tensor:
    spec = WeightSpec(dtype=dtype, symmetric=zero_point is None, granularity=granularity, shape=tuple(shape))
    return encoding.decode_channels(_stored(codes, scale, zero_point), spec, indices)


@torch.library.register_fake("mono_quant::dequantize_rows")  # type: ignore[untyped-decorator]
def _rows(  # noqa: PLR0917
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    indices: Tensor,
    dtype: str,
    granularity: str,
    shape: Sequence[int],
) -> Tensor:
    del zero_point, dtype, granularity
    return torch.empty(indices.shape[0], shape[1], dtype=scale.dtype, device=codes.device)


def _tensors(stored: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    return stored[""], stored["_scale"], stored.get("_zero_point")


def _stored(codes: Tensor, scale: Tensor, zero_point: Tensor | None) -> dict[str, Tensor]:
    tensors = {"": codes, "_scale": scale, "_zero_point": zero_point}
    return {suffix: tensor for suffix, tensor in tensors.items() if tensor is not None}
