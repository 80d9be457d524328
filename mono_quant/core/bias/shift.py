"""By how much quantization moves the mean of each output channel.

With weights ``Ŵ`` in place of ``W`` and inputs ``x̂`` in place of ``x`` a layer's output is off by

    W x - Ŵ x̂  =  (W - Ŵ) x  +  Ŵ (x - x̂)

and its mean over all windows by the same of the means, for both terms are linear (Nagel et al. 2019,
https://arxiv.org/abs/1906.04721, section 4.2, has the first term, by the statistics of a BatchNorm). A correction ``s``
of the bias makes of a mean squared error ``V + m²``, with variance ``V`` and mean ``m``, ``V + (m - s)²``: it is less
where ``|m - s| < |m|``, whatever ``V`` is. So it can be tried on held-back data by their means alone.
"""

import torch
from torch import Tensor

from mono_quant.core.bias.windows import per_channel

__all__ = ["correction", "shift"]


def shift(weight: Tensor, quantized: Tensor, mean: Tensor, rounding: Tensor | None, *, groups: int = 1) -> Tensor:
    """The mean of the float output less that of the quantized one, float64 ``(out,)``.

    Args:
        weight: float, ``(out, K)`` or ``(out, C/groups, *kernel)``.
        quantized: what its codes stand for, the same shape.
        mean: of the windows, float64 ``(K,)`` or ``(C, *kernel)``.
        rounding: mean of the windows less that of the quantized ones, the same shape; None where they stay float.
        groups: of a convolution.
    """
    moved = per_channel(mean, weight.double() - quantized.double(), groups)
    return moved if rounding is None else moved + per_channel(rounding, quantized.double(), groups)


def correction(fitted: Tensor, held_back: Tensor, everything: Tensor) -> Tensor:
    """What is added to the bias, float64 ``(out,)``; 0 for channels where it does not help.

    Args:
        fitted: `shift` of one part of the data.
        held_back: that of the other. Where the first would not have lowered its error, nothing is corrected.
        everything: that of both.
    """
    helps = (held_back - fitted).abs() < held_back.abs()
    return torch.where(helps & everything.isfinite(), everything, 0.0)
