"""How weights were quantized, packed and decoded before that was made fast: whole tensors, in the plainest operations.

The fast ways must give the same bits.
"""

from math import lcm

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.core.affine import SMALLEST_SCALE, choose_qparams
from mono_quant.core.granularity import PerGroup, PerTensor
from mono_quant.core.packing import packed_width
from mono_quant.core.tensor_spec import WeightSpec

__all__ = ["decoded", "encoded", "packed", "pair_sum", "quantized", "unpacked"]


def quantized(weight: Tensor, saturation: str) -> tuple[Tensor, Tensor]:
    """`quantize_weight`."""
    rows = weight.detach().reshape(weight.shape[0], -1).float()
    scale = rows.abs().amax(dim=1) / 127
    if saturation == "pair-safe":
        scale = torch.maximum(scale, (pair_sum(rows) / 128).float())
    scale = scale.clamp(min=SMALLEST_SCALE)
    codes = _symmetric_codes(rows, scale)
    if saturation == "pair-safe":
        while (unsafe := pair_sum(codes) > 128).any():
            scale = torch.where(unsafe, scale * (1 + 2**-20), scale)
            codes = _symmetric_codes(rows, scale)
    return codes.to(torch.int8).reshape(weight.shape), scale


def pair_sum(rows: Tensor) -> Tensor:
    """The larger of (two most positive) and -(two most negative) of each row, summed."""
    pair = min(2, rows.shape[1])
    positive = rows.topk(pair, dim=1).values.double().clamp(min=0).sum(dim=1)
    negative = rows.topk(pair, dim=1, largest=False).values.double().clamp(max=0).sum(dim=1)
    return torch.maximum(positive, -negative)


def encoded(weight: Tensor, spec: WeightSpec) -> dict[str, Tensor]:
    """`encode` of a weight that is scaled and not empty."""
    weight_CK = _channels(weight.detach(), spec)
    weight_CGE = _groups(weight_CK.float(), spec)
    if isinstance(spec.granularity, PerTensor):
        low, high = torch.aminmax(weight_CK)
    else:
        low, high = weight_CGE.amin(dim=2), weight_CGE.amax(dim=2)
    scale, zero_point = choose_qparams(low, high, spec.dtype, symmetric=spec.symmetric)
    codes_CGE = weight_CGE / _per_group(scale, spec)
    if not spec.dtype.is_float:
        codes_CGE = codes_CGE.round()
    codes_CGE = codes_CGE + (0 if spec.symmetric else _per_group(zero_point, spec))
    codes_CK = codes_CGE.clamp(spec.dtype.qmin, spec.dtype.qmax).flatten(1)[:, : spec.per_channel]
    stored = {suffix: torch.zeros(shape, dtype=dtype) for suffix, (dtype, shape) in spec.layout.items()}
    if spec.dtype.is_packed:
        stored[""] = packed(codes_CK - spec.dtype.qmin, spec.dtype.bits)
    else:
        by_channel = stored[""].movedim(spec.axis, 0)
        by_channel.copy_(codes_CK.reshape(by_channel.shape))
    stored["_scale"] = scale.reshape(stored["_scale"].shape)
    if not spec.symmetric:
        stored["_zero_point"] = zero_point.to(torch.int8).reshape(stored["_scale"].shape)
    return stored


def decoded(stored: dict[str, Tensor], spec: WeightSpec) -> Tensor:
    """`decode` of a weight that is scaled."""
    if spec.dtype.is_packed:
        codes_CK = unpacked(stored[""], spec.per_channel, spec.dtype.bits).to(torch.int8) + spec.dtype.qmin
    else:
        codes_CK = _channels(stored[""], spec)
    codes_CGE = _groups(codes_CK, spec)
    codes_CGE = codes_CGE.float() if spec.dtype.is_float else codes_CGE.to(torch.int32)
    zero_point = 0 if spec.symmetric else _per_group(stored["_zero_point"], spec).to(torch.int32)
    floats_CK = ((codes_CGE - zero_point) * _per_group(stored["_scale"], spec)).flatten(1)[:, : spec.per_channel]
    others = [size for axis, size in enumerate(spec.shape) if axis != spec.axis % len(spec.shape)]
    return floats_CK.reshape(spec.channels, *others).movedim(0, spec.axis).contiguous()


def packed(codes: Tensor, bits: int) -> Tensor:
    """`pack`."""
    rows, count = codes.shape
    per_word, bytes_per_word, words = _word(bits, count)
    padded = torch.zeros(rows, words * per_word, dtype=torch.int64)
    padded[:, :count] = codes
    word = (padded.view(rows, words, per_word) << torch.arange(per_word) * bits).sum(dim=2)
    in_bytes = ((word[:, :, None] >> torch.arange(bytes_per_word) * 8) & 255).to(torch.uint8)
    return in_bytes.view(rows, words * bytes_per_word)[:, : packed_width(count, bits)].contiguous()


def unpacked(stored: Tensor, count: int, bits: int) -> Tensor:
    """`unpack`."""
    rows, width = stored.shape
    per_word, bytes_per_word, words = _word(bits, count)
    padded = torch.zeros(rows, words * bytes_per_word, dtype=torch.int64)
    padded[:, :width] = stored
    word = (padded.view(rows, words, bytes_per_word) << torch.arange(bytes_per_word) * 8).sum(dim=2)
    codes = ((word[:, :, None] >> torch.arange(per_word) * bits) & (2**bits - 1)).to(torch.uint8)
    return codes.view(rows, words * per_word)[:, :count]


def _word(bits: int, count: int) -> tuple[int, int, int]:
    in_bits = lcm(bits, 8)
    return in_bits // bits, in_bits // 8, -(-count // (in_bits // bits))


def _symmetric_codes(rows: Tensor, scale: Tensor) -> Tensor:
    return (rows / scale[:, None]).round().clamp(-127, 127)


def _channels(tensor: Tensor, spec: WeightSpec) -> Tensor:
    return tensor.movedim(spec.axis, 0).reshape(spec.channels, spec.per_channel)


def _groups(tensor_CK: Tensor, spec: WeightSpec) -> Tensor:
    padded = functional.pad(tensor_CK, (0, -spec.per_channel % spec.group_size))
    return padded.reshape(spec.channels, spec.groups, spec.group_size)


def _per_group(values: Tensor, spec: WeightSpec) -> Tensor:
    if isinstance(spec.granularity, PerTensor):
        return values.view(1, 1, 1)
    return values.view(spec.channels, spec.groups if isinstance(spec.granularity, PerGroup) else 1, 1)
