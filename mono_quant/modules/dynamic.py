"""Ranges of inputs that are found when the model runs."""

import torch
from torch import Tensor

from mono_quant.core.affine import choose_qparams
from mono_quant.core.granularity import PerToken
from mono_quant.core.tensor_spec import TensorSpec

__all__ = ["WHOLE_UNITS", "input_qparams", "is_per_token"]

WHOLE_UNITS = (1.0, 128)
"""Scale and zero point of rows that were divided each by its own scale: symmetric, in uint8."""


def input_qparams(x: Tensor, spec: TensorSpec) -> tuple[Tensor, Tensor]:
    """Scale and zero point of a dynamic input.

    Args:
        x: float32 ``(..., K)``, not empty.
        spec: per tensor or per token.

    Returns:
        ``()`` or ``(..., 1)``, float32 and int32.
    """
    ends = (x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)) if is_per_token(spec) else torch.aminmax(x)
    return choose_qparams(*ends, spec.dtype, symmetric=spec.symmetric)


def is_per_token(spec: TensorSpec) -> bool:
    """Whether each row of an input has a range of its own."""
    return isinstance(spec.granularity, PerToken)
