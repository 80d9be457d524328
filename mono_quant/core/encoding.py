"""From a float weight to the tensors that are stored for it, and back.

Shape suffixes: C channels of K elements each, in G groups of E; R some of the channels; W bytes of a packed channel.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.core.affine import SMALLEST_SCALE, choose_qparams, codes_of, dequantize
from mono_quant.core.blocks import row_blocks, scratch_blocks
from mono_quant.core.granularity import PerGroup, PerTensor
from mono_quant.core.packing import pack, unpack
from mono_quant.core.tensor_spec import WeightSpec

__all__ = ["channels_of", "decode", "decode_channels", "encode", "put_codes", "put_qparams"]


def encode(weight: Tensor, spec: WeightSpec) -> dict[str, Tensor]:
    """The tensors that store a weight, by the suffixes of ``spec.layout``.

    Args:
        weight: ``spec.shape``, float16, bfloat16, float32 or float64, finite, within ±2.5e38: a code of few bits may
            stand for a third more than the largest weight.
        spec: how to store it.
    """
    weight = weight.detach()
    if not spec.is_scaled:
        return {"": weight.to(spec.dtype.storage, copy=True)}
    layout = spec.layout.items()
    stored = {suffix: torch.zeros(shape, dtype=dtype, device=weight.device) for suffix, (dtype, shape) in layout}
    if not weight.numel():
        stored["_scale"].fill_(SMALLEST_SCALE)
        return stored
    weight_CK = channels_of(weight, spec)
    put_qparams(stored, choose_qparams(*_ends(weight_CK, spec), spec.dtype, symmetric=spec.symmetric))
    put_codes(stored, weight_CK, spec)
    return stored


def put_codes(stored: Mapping[str, Tensor], weight_CK: Tensor, spec: WeightSpec) -> None:
    """Put the codes that are nearest to a weight, by the scales and zero points that are there.

    Args:
        stored: tensors by suffix.
        weight_CK: as `channels_of` gives it.
        spec: how they are stored.
    """
    codes_CW = stored[""] if spec.dtype.is_packed else stored[""].movedim(spec.axis, 0)
    for block, scratch_RK in scratch_blocks(weight_CK):
        weight_RGE = _groups(weight_CK[block].float(), spec)
        out = scratch_RK.view(weight_RGE.shape) if scratch_RK.numel() == weight_RGE.numel() else None
        codes_RGE = codes_of(weight_RGE, *_qparams(stored, spec, block), spec.code_type, out=out)
        codes_RK = codes_RGE.flatten(1)[:, : spec.per_channel]
        if spec.dtype.is_packed:
            codes_CW[block] = pack(codes_RK.to(torch.int8).sub_(spec.dtype.qmin), spec.dtype.bits)
        else:
            codes_CW[block] = codes_RK.view(-1, *codes_CW.shape[1:])


def put_qparams(stored: Mapping[str, Tensor], qparams: tuple[Tensor, Tensor]) -> None:
    """Put scales and zero points, as many as there are groups; symmetric weights have no place for the latter."""
    for suffix, value in zip(("_scale", "_zero_point"), qparams, strict=True):
        if suffix in stored:
            stored[suffix].copy_(value.view_as(stored[suffix]))


def decode(stored: Mapping[str, Tensor], spec: WeightSpec, *, at_once: bool = False) -> Tensor:
    """The float32 weight that stored tensors stand for, of shape ``spec.shape``.

    Args:
        stored: tensors by suffix.
        spec: how they are stored.
        at_once: in one expression, for torch to trace or to differentiate; otherwise some channels at a time, which is
            about twice as fast for a large weight and takes no more memory than the result.
    """
    if not spec.is_scaled:
        return stored[""].float()
    if at_once:
        return _from_channels(decode_channels(stored, spec), spec)
    weight = torch.empty(spec.shape, dtype=torch.float32, device=stored[""].device)
    by_channel = weight.movedim(spec.axis, 0)
    for block in row_blocks(by_channel):
        some = by_channel[block]
        some_RK = some.reshape(some.shape[0], spec.per_channel)  # the same memory where the layout allows it
        decode_channels(stored, spec, block, out=some_RK)
        if some_RK.data_ptr() != some.data_ptr():
            some.copy_(some_RK.view(some.shape))
    return weight


def decode_channels(
    stored: Mapping[str, Tensor],
    spec: WeightSpec,
    channels: slice | Tensor = slice(None),
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Some channels of that weight, float32 ``(R, K)``.

    Args:
        stored: tensors by suffix.
        spec: how they are stored.
        channels: a slice, or int32 or int64 indices ``(R,)``.
        out: room for them, or None to make it.

    Raises:
        IndexError: when an index is not among the channels.
    """
    codes = _some(stored[""] if spec.dtype.is_packed else stored[""].movedim(spec.axis, 0), channels)
    codes_RK = unpack(codes, spec.per_channel, spec.dtype.bits) if spec.dtype.is_packed else codes
    codes_RK = codes_RK.reshape(codes.shape[0], spec.per_channel)
    if not spec.is_scaled:
        return codes_RK.float() if out is None else out.copy_(codes_RK)
    scale_RG1, zero_point = _qparams(stored, spec, channels)
    if spec.dtype.is_packed:
        zero_point = zero_point - spec.dtype.qmin
    codes_RGE = _groups(codes_RK, spec)
    if out is not None and codes_RGE.numel() == out.numel():
        dequantize(codes_RGE, scale_RG1, zero_point, out=out.view(codes_RGE.shape))
        return out
    decoded = dequantize(codes_RGE, scale_RG1, zero_point).flatten(1)[:, : spec.per_channel]
    return decoded if out is None else out.copy_(decoded)


def channels_of(tensor: Tensor, spec: WeightSpec) -> Tensor:
    """A tensor of ``spec.shape`` as ``(C, K)``."""
    return tensor.movedim(spec.axis, 0).reshape(spec.channels, spec.per_channel)


def _from_channels(tensor_CK: Tensor, spec: WeightSpec) -> Tensor:
    """``(C, K)`` as ``spec.shape``, contiguous."""
    others = [size for axis, size in enumerate(spec.shape) if axis != spec.axis % len(spec.shape)]
    return tensor_CK.reshape(spec.channels, *others).movedim(0, spec.axis).contiguous()


def _groups(tensor_RK: Tensor, spec: WeightSpec) -> Tensor:
    """``(R, K) → (R, G, E)``, the last group filled up with zeros."""
    padding = -spec.per_channel % spec.group_size
    padded = functional.pad(tensor_RK, (0, padding)) if padding else tensor_RK
    return padded.reshape(padded.shape[0], spec.groups, spec.group_size)


def _ends(weight_CK: Tensor, spec: WeightSpec) -> tuple[Tensor, Tensor]:
    """The ends of the ranges that share a scale: ``()`` or ``(C, G)`` each."""
    if isinstance(spec.granularity, PerTensor):
        low, high = torch.aminmax(weight_CK)
        return low, high
    blocks = (_groups(weight_CK[block].float(), spec) for block in row_blocks(weight_CK))
    ends = torch.cat([torch.stack([block_RGE.amin(dim=2), block_RGE.amax(dim=2)]) for block_RGE in blocks], dim=1)
    return ends[0], ends[1]


def _qparams(stored: Mapping[str, Tensor], spec: WeightSpec, channels: slice | Tensor) -> tuple[Tensor, Tensor | int]:
    """The scale and zero point of some channels, in shapes that broadcast against ``(R, G, E)``."""
    zero_point = stored.get("_zero_point")
    scale_RG1 = _by_channel(stored["_scale"], spec, channels)
    return scale_RG1, 0 if zero_point is None else _by_channel(zero_point, spec, channels).to(torch.int32)


def _by_channel(per_group: Tensor, spec: WeightSpec, channels: slice | Tensor) -> Tensor:
    if isinstance(spec.granularity, PerTensor):
        return per_group.view(1, 1, 1)
    groups = spec.groups if isinstance(spec.granularity, PerGroup) else 1
    return _some(per_group.view(spec.channels, groups, 1), channels)


def _some(tensor: Tensor, channels: slice | Tensor) -> Tensor:
    # An index that is not there is an error also when it is negative: not tensor[channels], which counts from the end.
    return tensor[channels] if isinstance(channels, slice) else tensor.index_select(0, channels)
