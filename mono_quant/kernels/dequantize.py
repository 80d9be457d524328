"""Linear layers of which only the weight is quantized: made float once, kept while there is memory for it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.kernels.float_cache import FLOAT_CACHE
from mono_quant.plugin_api.kernel import Kernel, Op, Support, WeightOnlyOp

__all__ = ["DequantizeKernel"]


class DequantizeKernel(Kernel):
    """``nn.Linear``'s own float32 arithmetic: as fast as float, and as large while it runs.

    The float weights of all layers share a budget, see `mono_quant.kernels.float_cache`; beyond it they are made
    anew at each call.
    """

    def supports(self, op: Op, device: torch.device) -> Support:
        """Float inputs, on every device."""
        del device
        return Support() if isinstance(op, WeightOnlyOp) else Support.no("its input is quantized too")

    def pack(self, op: Op) -> Callable[[Tensor], Tensor]:
        """Nothing is made before the first call."""
        if not isinstance(op, WeightOnlyOp):
            raise TypeError(f"expected a WeightOnlyOp, got {type(op).__name__}")
        return _FloatLinear(op)


class _FloatLinear:
    def __init__(self, op: WeightOnlyOp) -> None:
        self._op = op
        self._sources = tuple(op.stored.values())

    def __call__(self, x: Tensor) -> Tensor:
        """``(N, in) → (N, out)``."""
        return functional.linear(x, FLOAT_CACHE.get(self, "weight", self._sources, self._op.weight), self._op.bias)
