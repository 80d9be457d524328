"""The values that the codes of a weight can stand for, by the scales and zero points that a scheme chose.

Shape suffixes: R rows (channels), K columns (elements of a channel), G groups of neighbouring columns.
"""

from collections.abc import Mapping
from typing import Self

import attrs
import torch
from torch import Tensor

from mono_quant.core.affine import codes_of, dequantize
from mono_quant.core.packing import pack, unpack
from mono_quant.core.qtypes import QType
from mono_quant.core.tensor_spec import WeightSpec

__all__ = ["Grid", "codes_of_stored", "stored_codes"]


@attrs.frozen(eq=False)
class Grid:
    """Scales and zero points of each row and group.

    Args:
        qtype: type of the codes, an integer.
        scale_RG: float.
        zero_point_RG: the same shape and dtype.
        group_size: how many columns a group has; the last may have fewer.
    """

    qtype: QType
    scale_RG: Tensor
    zero_point_RG: Tensor
    group_size: int

    @classmethod
    def of(cls, stored: Mapping[str, Tensor], spec: WeightSpec) -> Self:
        """That of a stored weight, whatever its granularity."""
        scale = stored["_scale"].reshape(-1, spec.groups).expand(spec.channels, spec.groups)
        zero_point = stored.get("_zero_point")
        if zero_point is None:
            return cls(spec.code_type, scale, torch.zeros_like(scale), spec.group_size)
        zero_point_RG = zero_point.reshape(-1, spec.groups).expand_as(scale).to(scale.dtype)
        return cls(spec.code_type, scale, zero_point_RG, spec.group_size)

    def of_rows(self, rows: slice) -> "Grid":
        """That of some rows."""
        return attrs.evolve(self, scale_RG=self.scale_RG[rows], zero_point_RG=self.zero_point_RG[rows])

    def nearest(self, weight_R: Tensor, column: int) -> tuple[Tensor, Tensor]:
        """The codes whose values are nearest to some weights of one column, and these values: ``(R,)`` each."""
        group = column // self.group_size
        scale, zero_point = self.scale_RG[:, group], self.zero_point_RG[:, group]
        codes = codes_of(weight_R, scale, zero_point, self.qtype)
        return codes, (codes - zero_point) * scale

    def by_column(self, columns: int) -> tuple[Tensor, Tensor]:
        """Scale and zero point of each column, ``(R, K)`` each."""
        scale_RK, zero_point_RK = (
            per_group.repeat_interleave(self.group_size, dim=1)[:, :columns]
            for per_group in (self.scale_RG, self.zero_point_RG)
        )
        return scale_RK, zero_point_RK

    def values(self, codes_RK: Tensor) -> Tensor:
        """What codes stand for, ``(R, K)``."""
        scale, zero_point = self.by_column(codes_RK.shape[1])
        return dequantize(codes_RK, scale, zero_point)


def codes_of_stored(stored: Tensor, spec: WeightSpec) -> Tensor:
    """Stored codes of channels along axis 0 → int8 ``(R, K)`` of integers in ``[qmin, qmax]``."""
    if not spec.dtype.is_packed:
        return stored.reshape(spec.channels, spec.per_channel).clone()
    return unpack(stored, spec.per_channel, spec.dtype.bits).to(torch.int8) + spec.dtype.qmin


def stored_codes(codes_RK: Tensor, spec: WeightSpec) -> Tensor:
    """Back again."""
    if not spec.dtype.is_packed:
        return codes_RK.to(spec.dtype.storage).reshape(spec.shape)
    return pack(codes_RK.to(torch.int8) - spec.dtype.qmin, spec.dtype.bits)
