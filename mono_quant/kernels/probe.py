"""What this torch can do on this machine, found by trying.

It is kept by the process and not by the kernels, which travel with a pickled model.
"""

from collections.abc import Callable
from functools import cache

import torch

from mono_quant.kernels.saturation import adds_pairs_in_int16
from mono_quant.plugin_api.kernel import Kernel, Op, QuantizedOp

__all__ = ["failure", "misfit", "overflow", "pairs_int16", "quantized"]

_INT32_MAX = 2**31 - 1
_LARGEST_PRODUCT = 255 * 128

Worst = tuple[Callable[..., QuantizedOp], ...]
"""One maker for each kind of small layer that a kernel runs: ``worst_linear``, ``worst_conv``."""


@cache
def failure(kernel: type[Kernel], worst: Worst) -> str:
    """Why a kernel cannot run here; empty when it can."""
    try:
        for make in worst:
            with torch.device("cpu"):  # whatever the user's default device and dtype are
                op = make(code=1)
                x = torch.zeros(1, op.weight.shape[1], *[4] * len(op.stride), dtype=torch.float32)
                kernel().pack(op)(x)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        return f"torch {torch.__version__} cannot run it: {error}"
    return ""


@cache
def pairs_int16(kernel: type[Kernel], worst: Worst) -> bool:
    """Whether a kernel adds two products in int16 on this CPU, for any of the layers; no when it cannot run here."""
    with torch.device("cpu"):
        return not failure(kernel, worst) and adds_pairs_in_int16(kernel().pack, *(make() for make in worst))


def overflow(op: QuantizedOp) -> str:
    """Why the sums of a layer do not fit a kernel that adds in int32; empty when they do."""
    # Few layers have so many inputs that their codes must be read.
    can_overflow = op.weight.shape[1:].numel() * _LARGEST_PRODUCT > _INT32_MAX and op.largest_sum > _INT32_MAX
    return "a sum of this layer can overflow int32" if can_overflow else ""


def misfit(op: QuantizedOp) -> str:
    """Why a kernel would read beyond the scales of a layer; empty when there is one for each output channel."""
    channels, scales = len(op.weight), list(op.weight_scale.shape)
    return "" if scales == [channels] else f"its {channels} output channels have scales of shape {scales}"


def quantized(op: Op) -> QuantizedOp:
    """The op of a kernel that runs only layers with a quantized input.

    Raises:
        TypeError: when it is another.
    """
    if not isinstance(op, QuantizedOp):
        raise TypeError(f"expected a QuantizedOp, got {type(op).__name__}")
    return op
