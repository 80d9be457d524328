"""Stored weights as ``DequantizeLinear`` has them."""

import attrs
import ml_dtypes
import numpy as np
import torch
from mono_quant.core.granularity import PerGroup, PerTensor
from mono_quant.core.packing import unpack
from mono_quant.core.tensor_spec import WeightSpec

from mono_quant_onnx.builder import Array

__all__ = ["StoredWeight", "stored_weight"]

_INT4_BITS = 4


@attrs.frozen(kw_only=True)
class StoredWeight:
    """The inputs and attributes of a ``DequantizeLinear``.

    Args:
        codes: of the weight's shape, or ``(C, K)``, its channels one after another, where a group of them has no place
            in the weight's own shape; int4 where the codes have 4 bits, int8 where they have 2, 3 or 5 to 8.
        scale: float32; ``()``, ``(C,)``, or that of the codes with the groups of a channel along its axis.
        zero_point: likewise, of the type of the codes.
        axis: along which scales change; None for one scale.
        block_size: how many neighbours along the axis share one; None where it is one for a channel.
        padding: zeros at the end of the axis, so that the last block is whole, as OpenVINO wants it.
    """

    codes: Array
    scale: Array
    zero_point: Array
    axis: int | None = None
    block_size: int | None = None
    padding: int = 0

    def transposed(self) -> "StoredWeight":
        """That of the transposed matrix."""
        codes, axis = np.ascontiguousarray(self.codes.T), None if self.axis is None else 1 - self.axis
        if self.block_size is None:
            return attrs.evolve(self, codes=codes, axis=axis)
        scale, zero_point = (np.ascontiguousarray(one.T) for one in (self.scale, self.zero_point))
        return attrs.evolve(self, codes=codes, scale=scale, zero_point=zero_point, axis=axis)


def stored_weight(codes: Array, scale: Array, zero_point: Array | None, spec: WeightSpec) -> StoredWeight:
    """The same codes and scales for ONNX; of 2, 3, 5, 6 and 7 bits, for which it has no types, each in a byte.

    Args:
        codes: as they are stored.
        scale: likewise.
        zero_point: int8, of the shape of the scale; None when symmetric.
        spec: how they are stored.
    """
    if spec.dtype.is_packed:
        in_bytes = unpack(torch.from_numpy(codes), spec.per_channel, spec.dtype.bits).numpy()
        codes = _in_shape((in_bytes.astype(np.int16) + spec.dtype.qmin).astype(np.int8), spec)
    if spec.dtype.bits == _INT4_BITS:
        codes = codes.astype(ml_dtypes.int4)
    zero_point = (np.zeros_like(scale) if zero_point is None else zero_point).astype(codes.dtype)
    if isinstance(spec.granularity, PerTensor):
        return StoredWeight(codes=codes, scale=scale, zero_point=zero_point)
    if not isinstance(spec.granularity, PerGroup):
        return StoredWeight(codes=codes, scale=scale, zero_point=zero_point, axis=spec.axis % len(spec.shape))
    channels = np.moveaxis(codes, spec.axis, 0).reshape(spec.channels, spec.per_channel)
    padding = spec.groups * spec.group_size - spec.per_channel
    return StoredWeight(
        codes=np.pad(channels, [(0, 0), (0, padding)]),
        scale=scale,
        zero_point=zero_point,
        axis=1,
        block_size=spec.group_size,
        padding=padding,
    )


def _in_shape(channels: Array, spec: WeightSpec) -> Array:
    """``(C, K)`` as ``spec.shape``."""
    others = [size for axis, size in enumerate(spec.shape) if axis != spec.axis % len(spec.shape)]
    return np.ascontiguousarray(np.moveaxis(channels.reshape(spec.channels, *others), 0, spec.axis))
