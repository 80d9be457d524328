"""Linear layers of which only the weight is quantized: made float once, kept while there is memory for it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.kernels.float_cache import FLOAT_CACHE
from mono_quant.plugin_api.kernel import Kernel, Op, Support, WeightOnlyOp

__all__ = ["DequantizeKernel", "FloatLinear"]


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
        return FloatLinear(op, torch.float32, op.bias)


class FloatLinear:
    """``x · weightᵀ + bias`` with the weight of an op in a float dtype; nothing is made before the first call."""

    def __init__(self, op: WeightOnlyOp, dtype: torch.dtype, bias: Tensor | None = None) -> None:
        self._op = op
        self._dtype = dtype
        self._bias = bias
        self._sources = tuple(op.stored.values())

    def __call__(self, x: Tensor) -> Tensor:
        """``(N, in) → (N, out)``, both of the dtype."""
        return functional.linear(x, FLOAT_CACHE.get(self, "weight", self._sources, self._make), self._bias)

    def _make(self) -> Tensor:
        return self._op.weight().to(self._dtype)
