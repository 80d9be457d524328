"""fbgemm: the fastest Linear at few rows. Float in, float out; it quantizes the input itself while packing it.

Its packed weight is the one place in this package where a quantized torch dtype occurs. Whether the machine and this
torch still have it is found by trying.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mono_quant.kernels.probe import failure, misfit, overflow, pairs_int16, quantized
from mono_quant.kernels.saturation import worst_linear
from mono_quant.plugin_api.kernel import Kernel, Op, QuantizedOp, Support

__all__ = ["FbgemmKernel"]

_WORST = (worst_linear,)
_packing = threading.Lock()
"""The engine in which torch packs, and the filters of warnings, belong to the whole process."""


class FbgemmKernel(Kernel):
    """``quantized.linear_with_input_q_dq_qweight_dq_output_fp32`` with the fbgemm engine."""

    @property
    def pairs_int16(self) -> bool:  # type: ignore[override]
        """Found by computing the worst case."""
        return pairs_int16(FbgemmKernel, _WORST)

    def supports(self, op: Op, device: torch.device) -> Support:
        """Linear on the CPU."""
        if not isinstance(op, QuantizedOp):
            return Support.no("its input is not quantized")
        if op.kind != "linear":
            return Support.no("fbgemm convolutions give integers, not floats")
        if device.type != "cpu":
            return Support.no("fbgemm runs on the CPU only")
        if "fbgemm" not in torch.backends.quantized.supported_engines:
            return Support.no("this build of torch has no fbgemm")
        return Support(misfit(op) or overflow(op) or failure(FbgemmKernel, _WORST))

    def pack(self, op: Op) -> Callable[[Tensor], Tensor]:
        """Fbgemm's own layout of the weight."""
        op = quantized(op)
        with _packing, _engine("fbgemm"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # since torch 2.13 making a tensor of a quantized dtype warns
            weight = _as_quantized_tensor(op.weight.contiguous(), op.weight_scale)
            packed = torch.ops.quantized.linear_prepack(weight, op.bias)
        run, qparams = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default, op.input_qparams
        return lambda x: run(x, *qparams(x), packed)


def _as_quantized_tensor(codes: Tensor, scale: Tensor) -> Tensor:
    """The codes, not copied, as a tensor of a quantized dtype: what torch packs from."""
    zero_points = torch.zeros(len(scale), dtype=torch.long)
    weight: Tensor = torch._empty_per_channel_affine_quantized(  # noqa: SLF001 - torch has no public way without a float copy
        (len(scale), 0), scales=scale.double(), zero_points=zero_points, axis=0, dtype=torch.qint8
    )
    return weight.set_(codes.untyped_storage(), codes.storage_offset(), codes.shape, codes.stride())


@contextmanager
def _engine(name: str) -> Iterator[None]:
    """The engine in which torch packs quantized weights, for a while."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = before
