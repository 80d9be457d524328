"""Affine quantization: the one place where its formulas stand.

    q = clamp(round_half_even(x / scale) + zero_point, qmin, qmax)        x ≈ (q - zero_point) · scale

(Jacob et al. 2018, https://arxiv.org/abs/1712.05877, equation 1.) The represented range always contains zero and
zero is exact, so that padding and the zeros of a ReLU stay zeros.
"""

import math
from struct import Struct

import torch
from torch import Tensor

from mono_quant.core.qtypes import QType

__all__ = ["SMALLEST_SCALE", "choose_qparams", "choose_qparams_of", "codes_of", "dequantize", "quantize"]

SMALLEST_SCALE = torch.finfo(torch.float32).tiny
"""A scale below the smallest normal float32 would be flushed to zero by some kernels."""
_LARGEST_SCALE = torch.finfo(torch.float32).max
_FLOAT32 = Struct("f")
_BYTES = (torch.uint8, torch.int8)
_ROUNDER = 1.5 * 2**23


def choose_qparams(
    min_val: Tensor, max_val: Tensor, qtype: QType, *, symmetric: bool = False, smallest_scale: float = SMALLEST_SCALE
) -> tuple[Tensor, Tensor]:
    """Scale and zero point that represent ``[min_val, max_val]`` and zero.

    Asymmetric: ``scale = (max - min) / (qmax - qmin)``, ``zero_point = round(qmin - min / scale)``.
    Symmetric: ``scale = max(|min|, |max|) / ((qmax - qmin) // 2)`` about the middle code, ``zero_point`` that code
    (0 for int8, 128 for uint8), so that ``±max`` are both represented.

    Args:
        min_val: lower ends, any shape, finite.
        max_val: upper ends, the same shape, finite.
        qtype: type of the codes.
        symmetric: whether the range is centred on zero.
        smallest_scale: floor of the scale.

    Returns:
        ``(scale, zero_point)`` of the same shape, float32 and int32.
    """
    low = min_val.double().clamp(max=0.0)
    high = max_val.double().clamp(min=0.0)
    if symmetric:
        scale = torch.maximum(-low, high) / ((qtype.qmax - qtype.qmin) // 2)
    else:
        scale = (high - low) / (qtype.qmax - qtype.qmin)
    scale = scale.clamp(min=smallest_scale, max=_LARGEST_SCALE).float()
    if symmetric:
        zero_point = torch.full_like(scale, (qtype.qmax + qtype.qmin + 1) // 2)
    else:
        zero_point = (qtype.qmin - low / scale).round().clamp(qtype.qmin, qtype.qmax)
    return scale, zero_point.to(torch.int32)


def quantize(x: Tensor, scale: Tensor | float, zero_point: Tensor | int, qtype: QType) -> Tensor:
    """Codes of ``x``: its shape, dtype ``qtype.storage``. ``scale`` and ``zero_point`` broadcast against ``x``."""
    if x.dtype is torch.float32 and isinstance(zero_point, int) and qtype.storage in _BYTES:
        return _quantize_through_bits(x.detach(), scale, zero_point, qtype)
    return codes_of(x, scale, zero_point, qtype).to(qtype.storage)


def codes_of(
    x: Tensor, scale: Tensor | float, zero_point: Tensor | int, qtype: QType, out: Tensor | None = None
) -> Tensor:
    """The same codes in the dtype of ``x``; codes that are floating-point themselves are not yet rounded to theirs."""
    codes = x.div(scale) if out is None else torch.div(x, scale, out=out)
    if not qtype.is_float:
        codes.round_()
    # Adding 0 makes 0.0 of -0.0, which codes that are floating-point would keep.
    if isinstance(zero_point, Tensor) or zero_point or qtype.is_float:
        codes.add_(zero_point)
    return codes.clamp_(qtype.qmin, qtype.qmax)


def _quantize_through_bits(x: Tensor, scale: Tensor | float, zero_point: int, qtype: QType) -> Tensor:
    """The same codes in half the time: torch converts float32 to a byte slowly, and int32 fast.

    Added to 1.5 · 2^23 a number is rounded to a whole one, half to even, which is then the low bits of the sum.
    """
    total = x.div(scale).add_(_ROUNDER).clamp_(_ROUNDER + qtype.qmin - zero_point, _ROUNDER + qtype.qmax - zero_point)
    codes = total.view(torch.int32).to(qtype.storage)
    return codes.add_(zero_point) if zero_point else codes


def dequantize(
    codes: Tensor, scale: Tensor | float, zero_point: Tensor | int = 0, *, out: Tensor | None = None
) -> Tensor:
    """The float32 values that ``codes`` stand for: their shape. ``scale`` and ``zero_point`` broadcast.

    Codes of a byte may be given room of their shape: ``out``, float32.
    """
    if codes.itemsize > 1 and not codes.is_floating_point():
        return (codes.to(torch.int32) - zero_point) * scale
    offset = zero_point.float() if isinstance(zero_point, Tensor) else zero_point
    if out is not None:
        return out.copy_(codes).sub_(offset).mul_(scale)
    floats = codes.float()  # exact; torch takes twice as long for the product of an integer and a float
    return (floats if isinstance(offset, int) and offset == 0 else floats - offset) * scale


def choose_qparams_of(low: float, high: float, qtype: QType) -> tuple[float, int]:
    """`choose_qparams` of one asymmetric range, in Python numbers: several times faster than with tensors.

    A range that is not finite has no scale: NaN, which makes the output of a layer NaN.

    >>> from mono_quant.core.qtypes import UINT8
    >>> choose_qparams_of(-1.0, 1.0, UINT8)
    (0.007843137718737125, 127)
    """
    if not math.isfinite(low + high):
        return math.nan, qtype.qmin
    low, high = min(low, 0.0), max(high, 0.0)
    scale = min(max((high - low) / (qtype.qmax - qtype.qmin), SMALLEST_SCALE), _LARGEST_SCALE)
    (scale,) = _FLOAT32.unpack(_FLOAT32.pack(scale))
    return scale, min(max(round(qtype.qmin - low / scale), qtype.qmin), qtype.qmax)
