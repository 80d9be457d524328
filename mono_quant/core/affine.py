"""Affine quantization: the one place where its formulas stand.

    q = clamp(round_half_even(x / scale) + zero_point, qmin, qmax)        x ≈ (q - zero_point) · scale

(Jacob et al. 2018, https://arxiv.org/abs/1712.05877, equation 1.) The represented range always contains zero and
zero is exact, so that padding and the zeros of a ReLU stay zeros.
"""

import torch
from torch import Tensor

from mono_quant.core.qtypes import QType

__all__ = ["SMALLEST_SCALE", "choose_qparams", "dequantize", "quantize"]

SMALLEST_SCALE = torch.finfo(torch.float32).tiny
"""A scale below the smallest normal float32 would be flushed to zero by some kernels."""


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
    scale = scale.clamp(min=smallest_scale, max=torch.finfo(torch.float32).max).float()
    if symmetric:
        zero_point = torch.full_like(scale, (qtype.qmax + qtype.qmin + 1) // 2)
    else:
        zero_point = (qtype.qmin - low / scale).round().clamp(qtype.qmin, qtype.qmax)
    return scale, zero_point.to(torch.int32)


def quantize(x: Tensor, scale: Tensor | float, zero_point: Tensor | int, qtype: QType) -> Tensor:
    """Codes of ``x``: its shape, dtype ``qtype.storage``. ``scale`` and ``zero_point`` broadcast against ``x``."""
    return x.div(scale).round_().add_(zero_point).clamp_(qtype.qmin, qtype.qmax).to(qtype.storage)


def dequantize(codes: Tensor, scale: Tensor | float, zero_point: Tensor | int = 0) -> Tensor:
    """The float32 values that ``codes`` stand for: their shape. ``scale`` and ``zero_point`` broadcast."""
    return (codes.to(torch.int32) - zero_point) * scale
