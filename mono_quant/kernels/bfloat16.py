"""Linear layers of which only the weight is quantized, computed in bfloat16: fast at few rows, on some CPUs at many.

Inputs, scales and outputs are rounded to bfloat16 (8 significant bits), about 50 dB below the output.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mono_quant.core.affine import dequantize
from mono_quant.core.granularity import PerChannel, PerGroup
from mono_quant.core.packing import unpack
from mono_quant.core.qtypes import FLOAT16, INT8, int_type
from mono_quant.kernels.dequantize import FloatLinear
from mono_quant.plugin_api.kernel import Kernel, Op, Support, WeightOnlyOp

__all__ = ["BFloat16Kernel", "Int4PackKernel", "Int8PackKernel"]

_INT4 = int_type(4)
_INT8_FEATURES = 32
"""``_weight_int8pack_mm`` reads whole vectors, with AVX-512 of 16 numbers, also beyond the end of the memory."""
_INT8_ALIGNMENT = 64
"""It also demands that they begin at a multiple of their size in memory, which tensors of a mapped file need not do."""
_INT4_GROUPS = (32, 64, 128, 256)
_INT4_CHANNELS = 16
"""What ``_convert_weight_to_int4pack_for_cpu`` demands: groups of these sizes, channels in sixteens."""


class _BFloat16(Kernel):
    """What they have in common."""

    precision = torch.bfloat16

    def supports(self, op: Op, device: torch.device) -> Support:
        """Weights that bfloat16 does not round further than they were, on the CPU."""
        if not isinstance(op, WeightOnlyOp):
            return Support.no("its input is quantized too")
        if device.type != "cpu":
            return Support.no("it was found to be fast on the CPU only")
        return Support(self.why_not(op))

    def why_not(self, op: WeightOnlyOp) -> str:
        """Why it does not run the op; empty when it does."""
        raise NotImplementedError

    def pack(self, op: Op) -> Callable[[Tensor], Tensor]:
        """The weight as the operator takes it."""
        if not isinstance(op, WeightOnlyOp):
            raise TypeError(f"expected a WeightOnlyOp, got {type(op).__name__}")
        run, bias = self.operator(op), op.bias

        def linear(x: Tensor) -> Tensor:
            y = run(x.bfloat16().contiguous()).float()
            return y if bias is None else y.add_(bias)

        return linear

    def operator(self, op: WeightOnlyOp) -> Callable[[Tensor], Tensor]:
        """The product with the weight, bfloat16 ``(N, in) → (N, out)``."""
        raise NotImplementedError


class BFloat16Kernel(_BFloat16):
    """``nn.Linear``'s arithmetic with the weight made bfloat16 once, within the budget of the float weights."""

    def why_not(self, op: WeightOnlyOp) -> str:
        """Float16 weights have more significant bits."""
        return "it would round float16 weights" if op.spec.dtype == FLOAT16 else ""

    def operator(self, op: WeightOnlyOp) -> Callable[[Tensor], Tensor]:
        """Nothing is made before the first call."""
        return FloatLinear(op, torch.bfloat16)


class Int8PackKernel(_BFloat16):
    """``_weight_int8pack_mm`` on the codes as they are stored."""

    def why_not(self, op: WeightOnlyOp) -> str:
        """Symmetric int8 per channel, input features in thirty-twos."""
        spec = op.spec
        fits = (
            spec.dtype == INT8
            and spec.symmetric
            and spec.granularity == PerChannel(0)
            and spec.per_channel % _INT8_FEATURES == 0
        )
        return "" if fits else "it runs symmetric int8 weights per channel, of 32, 64, 96... input features"

    def operator(self, op: WeightOnlyOp) -> Callable[[Tensor], Tensor]:
        """No copy of the codes, unless they begin where the operator would crash."""
        codes, scale = op.stored[""].contiguous(), op.stored["_scale"].bfloat16()
        codes = codes.clone() if codes.data_ptr() % _INT8_ALIGNMENT else codes
        run = torch.ops.aten._weight_int8pack_mm.default  # noqa: SLF001 - torch has no public one
        return lambda x: run(x, codes, scale)


class Int4PackKernel(_BFloat16):
    """``_weight_int4pack_mm_for_cpu`` on codes in an order of its own."""

    def why_not(self, op: WeightOnlyOp) -> str:
        """Whole groups, and channels in sixteens."""
        spec = op.spec
        fits = (
            spec.dtype == _INT4
            and isinstance(spec.granularity, PerGroup)
            and spec.axis == 0
            and spec.group_size in _INT4_GROUPS
            and spec.per_channel % spec.group_size == 0
            and spec.channels % _INT4_CHANNELS == 0
        )
        return "" if fits else "it runs int4 weights in groups of 32, 64, 128 or 256, of 16, 32, 48... channels"

    def operator(self, op: WeightOnlyOp) -> Callable[[Tensor], Tensor]:
        """Its codes begin at 0, its zero is a number: ``(u - 8) · scale + zero``."""
        codes = unpack(op.stored[""], op.spec.per_channel, _INT4.bits).to(torch.int32)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu.default(codes, 1)  # noqa: SLF001 - as above
        scale = op.stored["_scale"]
        zero = torch.zeros_like(scale) if op.spec.symmetric else dequantize(-op.stored["_zero_point"], scale)
        scales_and_zeros = torch.stack([scale, zero], dim=-1).transpose(0, 1).contiguous().bfloat16()
        run, group = torch.ops.aten._weight_int4pack_mm_for_cpu.default, op.spec.group_size  # noqa: SLF001 - as above
        return lambda x: run(x, packed, group, scales_and_zeros)
