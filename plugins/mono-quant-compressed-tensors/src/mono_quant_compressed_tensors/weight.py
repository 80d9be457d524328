"""One weight in the layout of compressed-tensors, and back.

========================  ========  ==================================================================
tensor                    dtype     shape, for a weight ``(out, in)``
========================  ========  ==================================================================
``weight``                int8      ``(out, in)``; also float8; of a layer whose weight is not packed
``weight_packed``         int32     ``(out, ceil(in · B / 32))``; of one that is
``weight_shape``          int64     ``(2,)``: out and in; of one that is packed
``weight_scale``          float32   ``(1,)``, ``(out, 1)`` or ``(out, in / g)``
``weight_zero_point``     int32     ``(ceil(out · B / 32), 1 or in / g)``, packed along the rows; asymmetric only
========================  ========  ==================================================================

A zero point that is one for the whole weight is not packed: int8 ``(1,)``. Packed codes are counted from the lowest:
``q + 2^(B - 1)``, code i of a row in bits ``i·B … i·B + B - 1`` of its words.
"""

from collections.abc import Mapping

import torch
from mono_quant.core.granularity import PerTensor
from mono_quant.core.packing import packed_width
from mono_quant.plugin_api import WeightSpec
from torch import Tensor

from mono_quant_compressed_tensors.words import bytes_of, pack_columns, unpack_columns, word_count, words_of

__all__ = ["decode", "encode", "is_packed", "layout", "layout_of"]

Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]

_SIGN = 128
"""The highest bit of a byte, which tells int8 counted from zero from int8 counted from the lowest."""


def is_packed(spec: WeightSpec, *, has_quantized_input: bool = False) -> bool:
    """Whether the codes of a weight are packed into words: integers are, where the input stays float."""
    return spec.is_scaled and not spec.dtype.is_float and not has_quantized_input


def layout(name: str, spec: WeightSpec, *, packed: bool) -> Layout:
    """Name in the file → dtype and shape.

    Args:
        name: of the float parameter.
        spec: how it is quantized; nothing that is refused.
        packed: whether its codes are packed, see `is_packed`.
    """
    return {name + suffix: info for suffix, info in layout_of(spec, packed=packed).items()}


def layout_of(spec: WeightSpec, *, packed: bool) -> Layout:
    """What is added to the name of the parameter → dtype and shape."""
    if not spec.is_scaled:
        return {"": (spec.dtype.storage, spec.shape)}
    bits, scale = spec.dtype.bits, _scale_shape(spec)
    tensors: Layout = {"": (spec.dtype.storage, spec.shape)}
    if packed:
        words = (spec.channels, word_count(spec.per_channel, bits))
        tensors = {"_packed": (torch.int32, words), "_shape": (torch.int64, (len(spec.shape),))}
    tensors["_scale"] = (torch.float32, scale)
    if not spec.symmetric and packed and not isinstance(spec.granularity, PerTensor):
        tensors["_zero_point"] = (torch.int32, (word_count(scale[0], bits), scale[1]))
    elif not spec.symmetric:
        tensors["_zero_point"] = (torch.int8, scale)
    return tensors


def encode(name: str, stored: Mapping[str, Tensor], spec: WeightSpec, *, packed: bool) -> dict[str, Tensor]:
    """The tensors of `layout`.

    Args:
        name: of the float parameter.
        stored: tensors by suffix, as of `WeightSpec`.
        spec: how they are stored.
        packed: as of `layout`.
    """
    codes = stored[""].detach()
    if not spec.is_scaled:
        return {name: codes}
    scale = stored["_scale"].detach().reshape(_scale_shape(spec))
    tensors = {"": codes}
    if packed:
        in_bytes = codes if spec.dtype.is_packed else codes.contiguous().view(torch.uint8).bitwise_xor(_SIGN)
        tensors = {"_packed": words_of(in_bytes), "_shape": torch.tensor(spec.shape, dtype=torch.int64)}
    tensors["_scale"] = scale
    if not spec.symmetric:
        zero_point = stored["_zero_point"].reshape(scale.shape)
        has_columns = packed and not isinstance(spec.granularity, PerTensor)
        counted = zero_point.to(torch.int16).sub(spec.dtype.qmin).to(torch.uint8)
        tensors["_zero_point"] = pack_columns(counted, spec.dtype.bits) if has_columns else zero_point
    return {name + suffix: tensor for suffix, tensor in tensors.items()}


def decode(name: str, tensors: Mapping[str, Tensor], spec: WeightSpec, *, packed: bool) -> dict[str, Tensor]:
    """The tensors of `WeightSpec`, by suffix, from those of `layout`; scales may be of any float dtype."""
    if not spec.is_scaled:
        return {"": tensors[name]}
    ours = spec.layout
    if not packed:
        codes = tensors[name]
    elif spec.dtype.is_packed:
        codes = bytes_of(tensors[f"{name}_packed"], packed_width(spec.per_channel, spec.dtype.bits))
    else:
        codes = bytes_of(tensors[f"{name}_packed"], spec.per_channel).bitwise_xor(_SIGN).view(torch.int8)
    stored = {"": codes, "_scale": tensors[f"{name}_scale"].float().reshape(ours["_scale"][1])}
    if not spec.symmetric:
        zero_point = tensors[f"{name}_zero_point"]
        if packed and not isinstance(spec.granularity, PerTensor):
            counted = unpack_columns(zero_point, spec.channels, spec.dtype.bits)
            zero_point = counted.to(torch.int16).add(spec.dtype.qmin).to(torch.int8)
        stored["_zero_point"] = zero_point.reshape(ours["_zero_point"][1])
    return stored


def _scale_shape(spec: WeightSpec) -> tuple[int, ...]:
    return (1,) if isinstance(spec.granularity, PerTensor) else (spec.channels, _scales_a_row(spec))


def _scales_a_row(spec: WeightSpec) -> int:
    shape = spec.layout["_scale"][1]
    return shape[1] if len(shape) > 1 else 1
