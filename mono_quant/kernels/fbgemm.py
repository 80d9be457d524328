"""fbgemm: the fastest Linear at few rows. Float in, float out; it quantizes the input itself while packing it.

Its packed weight is the one place in this package where a quantized torch dtype occurs. Whether the machine and this
torch still have it is found by trying.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from mono_quant.kernels.saturation import adds_pairs_in_int16, worst_linear
from mono_quant.plugin_api.kernel import Kernel, QuantizedOp, Support

__all__ = ["FbgemmKernel"]

_INT32_MAX = 2**31 - 1
_packing = threading.Lock()
"""The engine in which torch packs, and the filters of warnings, belong to the whole process."""


class FbgemmKernel(Kernel):
    """``quantized.linear_with_input_q_dq_qweight_dq_output_fp32`` with the fbgemm engine."""

    @property
    def pairs_int16(self) -> bool:  # type: ignore[override]
        """Found by computing the worst case."""
        return _pairs_int16()

    def supports(self, op: QuantizedOp, device: torch.device) -> Support:
        """Linear on the CPU."""
        if op.kind != "linear":
            return Support.no("fbgemm convolutions give integers, not floats")
        if device.type != "cpu":
            return Support.no("fbgemm runs on the CPU only")
        if op.largest_sum > _INT32_MAX:
            return Support.no("a sum of this layer can overflow int32")
        return Support(_failure())

    def pack(self, op: QuantizedOp) -> Callable[[Tensor], Tensor]:
        """Fbgemm's own layout of the weight."""
        with _packing, _engine("fbgemm"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # since torch 2.13 making a tensor of a quantized dtype warns
            weight = torch._make_per_channel_quantized_tensor(  # noqa: SLF001 - torch has no public way without a float copy
                op.weight, op.weight_scale.double(), torch.zeros(len(op.weight_scale), dtype=torch.long), 0
            )
            packed = torch.ops.quantized.linear_prepack(weight, op.bias)
        run, qparams = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default, op.input_qparams
        return lambda x: run(x, *qparams(x), packed)


# What is found out about this CPU is kept by the process, not by the kernel, which travels with a pickled model.
@cache
def _pairs_int16() -> bool:
    return not _failure() and adds_pairs_in_int16(FbgemmKernel().pack, worst_linear())


@cache
def _failure() -> str:
    """Why this torch on this machine cannot run it; empty when it can."""
    try:
        if "fbgemm" not in torch.backends.quantized.supported_engines:
            return "this build of torch has no fbgemm"
        op = worst_linear(code=1)
        FbgemmKernel().pack(op)(torch.zeros(1, op.weight.shape[1]))
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        return f"torch {torch.__version__} cannot run it: {error}"
    return ""


@contextmanager
def _engine(name: str) -> Iterator[None]:
    """The engine in which torch packs quantized weights, for a while."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = before
