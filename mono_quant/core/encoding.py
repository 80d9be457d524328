"""From a float weight to the tensors that are stored for it, and back.

Shape suffixes: C channels of K elements each, in G groups of E; R some of the channels; W bytes of a packed channel.
"""

from collections.abc import Mapping
from types import EllipsisType

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.core.affine import SMALLEST_SCALE, choose_qparams, codes_of, dequantize
from mono_quant.core.blocks import row_blocks
from mono_quant.core.granularity import PerGroup, PerTensor
from mono_quant.core.packing import pack, unpack
from mono_quant.core.tensor_spec import WeightSpec

__all__ = ["channels_of", "decode", "decode_channels", "encode"]


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
    codes_CW = stored[""] if spec.dtype.is_packed else stored[""].movedim(spec.axis, 0)
    has_one_scale = isinstance(spec.granularity, PerTensor)
    if has_one_scale:
        _set_qparams(stored, spec, ..., *torch.aminmax(weight_CK))
    for block in row_blocks(weight_CK):
        weight_RGE = _groups(weight_CK[block].float(), spec)
        if not has_one_scale:
            _set_qparams(stored, spec, block, weight_RGE.amin(dim=2), weight_RGE.amax(dim=2))
        codes_RGE = codes_of(weight_RGE, *_qparams(stored, spec, block), spec.dtype)
        codes_RK = codes_RGE.flatten(1)[:, : spec.per_channel]
        if spec.dtype.is_packed:
            codes_CW[block] = pack(codes_RK.to(torch.int8).sub_(spec.dtype.qmin), spec.dtype.bits)
        else:
            codes_CW[block] = codes_RK.view(-1, *codes_CW.shape[1:])
    return stored


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
    weight_CK = torch.empty(spec.channels, spec.per_channel, dtype=torch.float32, device=stored[""].device)
    for block in row_blocks(weight_CK):
        weight_CK[block] = decode_channels(stored, spec, block)
    return _from_channels(weight_CK, spec)


def decode_channels(stored: Mapping[str, Tensor], spec: WeightSpec, channels: slice | Tensor = slice(None)) -> Tensor:
    """Some channels of that weight, float32 ``(R, K)``.

    Args:
        stored: tensors by suffix.
        spec: how they are stored.
        channels: a slice, or int32 or int64 indices ``(R,)``.

    Raises:
        IndexError: when an index is not among the channels.
    """
    codes = _some(stored[""] if spec.dtype.is_packed else channels_of(stored[""], spec), channels)
    if not spec.is_scaled:
        return codes.float()
    if spec.dtype.is_packed:
        codes = unpack(codes, spec.per_channel, spec.dtype.bits).to(torch.int8) + spec.dtype.qmin
    codes_RGE = _groups(codes, spec)
    return dequantize(codes_RGE, *_qparams(stored, spec, channels)).flatten(1)[:, : spec.per_channel]


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


def _set_qparams(
    stored: Mapping[str, Tensor], spec: WeightSpec, block: slice | EllipsisType, low: Tensor, high: Tensor
) -> None:
    """Scales and zero points for the ends of ranges: ``()`` for all, or ``(R, G)`` for a block of channels."""
    scale, zero_point = choose_qparams(low, high, spec.dtype, symmetric=spec.symmetric)
    for suffix, value in (("_scale", scale), ("_zero_point", zero_point)):
        if suffix in stored:
            tensor = stored[suffix]
            tensor[block] = value.view_as(tensor[block])


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
