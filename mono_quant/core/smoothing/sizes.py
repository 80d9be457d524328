"""Sizes that formulas for factors divide by: of channels, none of which is zero, and of the steps of rounding."""

import torch
from torch import Tensor

from mono_quant.core.affine import choose_qparams
from mono_quant.core.tensor_spec import TensorSpec

__all__ = ["floored", "step"]


def floored(sizes: Tensor, least_part: float) -> Tensor:
    """Sizes of channels, any shape, where those below a part of the largest are taken for that part.

    So a channel that is never used asks for no infinity.
    """
    return sizes.clamp(min=max(least_part * float(sizes.max()), torch.finfo(torch.float32).tiny))


def step(low: Tensor, high: Tensor, spec: TensorSpec) -> Tensor:
    """The scale for ranges, float64 of their shape."""
    return choose_qparams(low, high, spec.dtype, symmetric=spec.symmetric)[0].double()
