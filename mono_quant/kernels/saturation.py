"""Whether a kernel adds two u8·s8 products in int16 on this CPU: found by computing the worst case, not by CPU flags.

All weights 127 and all activations 255: one pair is 2 · 255 · 127 = 64770, and int16 ends at 32767.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api.kernel import QuantizedOp

__all__ = ["adds_pairs_in_int16", "worst_conv", "worst_linear"]

_CHANNELS = 64
_LARGEST_WEIGHT = 127


def adds_pairs_in_int16(pack: Callable[[QuantizedOp], Callable[[Tensor], Tensor]], *worst: QuantizedOp) -> bool:
    """Whether a kernel's result differs from the exact one for any of the worst cases."""
    return not all(_is_exact(pack, op) for op in worst)


def worst_linear(code: int = _LARGEST_WEIGHT) -> QuantizedOp:
    """A small linear layer whose weights are all the same code."""
    return QuantizedOp(
        kind="linear",
        weight=torch.full((_CHANNELS, _CHANNELS), code, dtype=torch.int8),
        weight_scale=torch.ones(_CHANNELS, dtype=torch.float32),
        bias=None,
        input_scale=1.0,
        input_zero_point=0,
    )


def worst_conv(code: int = _LARGEST_WEIGHT) -> QuantizedOp:
    """A small convolution whose weights are all the same code."""
    return QuantizedOp(
        kind="conv2d",
        weight=torch.full((_CHANNELS, _CHANNELS, 3, 3), code, dtype=torch.int8),
        weight_scale=torch.ones(_CHANNELS, dtype=torch.float32),
        bias=None,
        input_scale=1.0,
        input_zero_point=0,
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
    )


def _is_exact(pack: Callable[[QuantizedOp], Callable[[Tensor], Tensor]], op: QuantizedOp) -> bool:
    x = torch.full((8, _CHANNELS, *[8] * len(op.stride)), 255.0, dtype=torch.float32)
    return torch.allclose(pack(op)(x), ReferenceKernel().pack(op)(x), rtol=1e-5)
