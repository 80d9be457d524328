"""The kernel: which layers it runs, and whether ONNX Runtime works here at all."""

from collections.abc import Callable
from functools import cache
from importlib import import_module

import torch
from mono_quant.core.encoding import encode
from mono_quant.plugin_api import Kernel, Op, Support, WeightOnlyOp, WeightSpec
from torch import Tensor

from mono_quant_matmulnbits.blocks import blocks_of, why_not

__all__ = ["MatMulNBitsKernel"]

_OPERATOR = "mono_quant_matmulnbits.operator"
"""Imported on first use: it needs ONNX Runtime, which may be broken, and which a model of other layers does without."""


class MatMulNBitsKernel(Kernel):
    """``com.microsoft.MatMulNBits`` with float32 inputs: weights are made float a few at a time, in registers."""

    def supports(self, op: Op, device: torch.device) -> Support:
        """Weights of 2 to 4 bits whose groups are whole blocks, on the CPU, where ONNX Runtime has the operator."""
        if type(op) is not WeightOnlyOp:
            return Support.no("it runs linear layers of which only the weight is quantized")
        if device.type != "cpu":
            return Support.no("it runs on the CPU")
        return Support(why_not(op.spec) or _failure())

    def pack(self, op: Op) -> Callable[[Tensor], Tensor]:
        """A session of ONNX Runtime for this layer, with a copy of the codes and scales in an order of its own."""
        if type(op) is not WeightOnlyOp:
            raise TypeError(f"expected a WeightOnlyOp, got {type(op).__name__}")
        run: Callable[[Tensor], Tensor] = import_module(_OPERATOR).MatMulNBits(blocks_of(op.stored, op.spec))
        bias = op.bias
        return run if bias is None else lambda x: run(x).add_(bias)


@cache
def _failure() -> str:
    """Why ONNX Runtime cannot run the operator here; empty when it can."""
    spec = WeightSpec(dtype="int4", symmetric=False, granularity="per-group(16)", shape=(3, 40))
    try:
        with torch.device("cpu"):
            op = WeightOnlyOp(stored=encode(torch.ones(3, 40, dtype=torch.float32), spec), spec=spec, bias=None)
            MatMulNBitsKernel().pack(op)(torch.zeros(2, 40, dtype=torch.float32))
    except Exception as error:  # noqa: BLE001 - a broken installation can raise anything
        return f"ONNX Runtime cannot run MatMulNBits here: {type(error).__name__}: {error}"
    return ""
