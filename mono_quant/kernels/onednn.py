"""oneDNN on plain tensors: the fastest convolutions, and the fastest Linear from a few hundred rows on."""

from collections.abc import Callable
from typing import cast

import attrs
import torch
from torch import Tensor

from mono_quant.core.affine import quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.kernels.probe import failure, misfit, overflow, pairs_int16, quantized
from mono_quant.kernels.saturation import worst_conv, worst_linear
from mono_quant.plugin_api.kernel import Kernel, Op, QuantizedOp, Support

__all__ = ["OnednnKernel"]

_WORST = (worst_linear, worst_conv)
_CHANNELS_LAST = {"conv2d": torch.channels_last, "conv3d": torch.channels_last_3d}


class OnednnKernel(Kernel):
    """``onednn.qlinear_pointwise`` and ``onednn.qconv_pointwise``: uint8 in, float32 out."""

    @property
    def pairs_int16(self) -> bool:  # type: ignore[override]
        """Found by computing the worst case, for both of its operators."""
        return pairs_int16(OnednnKernel, _WORST)

    def supports(self, op: Op, device: torch.device) -> Support:
        """Linear and convolutions on the CPU."""
        if not isinstance(op, QuantizedOp):
            return Support.no("its input is not quantized")
        if device.type != "cpu":
            return Support.no("oneDNN runs on the CPU only")
        if op.kind != "linear" and op.input_scale is None:
            return Support.no("its convolutions are packed for a fixed input scale")
        return Support(misfit(op) or overflow(op) or failure(OnednnKernel, _WORST))

    def pack(self, op: Op) -> Callable[[Tensor], Tensor]:
        """OneDNN's own layout of the weight."""
        op = quantized(op)
        return _pack_linear(op) if op.kind == "linear" else _pack_conv(op)


def _pack_linear(op: QuantizedOp) -> Callable[[Tensor], Tensor]:
    weight = torch.ops.onednn.qlinear_prepack(op.weight.contiguous(), None)  # it takes no notice of strides
    zero_points = torch.zeros(len(op.weight_scale), dtype=torch.long)
    run = torch.ops.onednn.qlinear_pointwise.default
    weight_scale, bias = op.weight_scale, op.bias

    def linear(x: Tensor) -> Tensor:
        scale, zero_point = op.input_qparams(x)
        codes = quantize(x, scale, zero_point, UINT8)
        y: Tensor = run(
            codes, scale, zero_point, weight, weight_scale, zero_points, bias, 1.0, 0, torch.float32, "none", [], ""
        )
        return y

    return linear


def _pack_conv(op: QuantizedOp) -> Callable[[Tensor], Tensor]:
    if op.kind == "conv2d" and op.weight.shape[3] == 1 < op.weight.shape[2]:
        # A kernel that is one column runs up to ten times slower than one that is one row, with AVX-512.
        row = _pack_conv(_transposed(op))
        return lambda x: _in_layout_of(x, row(x.transpose(2, 3)).transpose(2, 3), torch.channels_last)
    layout = _CHANNELS_LAST.get(op.kind, torch.contiguous_format)
    # `supports` refuses dynamic ones, so these are not None.
    scale, zero_point = cast("float", op.input_scale), cast("int", op.input_zero_point)
    weight = torch.ops.onednn.qconv_prepack(
        op.weight, op.weight_scale, scale, zero_point,
        op.stride, op.padding, op.dilation, op.groups, None,
    )  # fmt: skip
    zero_points = torch.zeros(len(op.weight_scale), dtype=torch.long)
    run = torch.ops.onednn.qconv_pointwise.default

    def conv(x: Tensor) -> Tensor:
        codes = quantize(x, scale, zero_point, UINT8).contiguous(memory_format=layout)
        y: Tensor = run(
            codes, scale, zero_point, weight, op.weight_scale, zero_points, op.bias,
            op.stride, op.padding, op.dilation, op.groups, 1.0, 0, torch.float32, "none", [], None,
        )  # fmt: skip
        if not y.numel():  # oneDNN gives an empty result of any shape where the float layer raises
            raise RuntimeError(f"an input of {list(x.shape)} is smaller than the kernel {list(op.weight.shape[2:])}")
        return _in_layout_of(x, y, layout)

    return conv


def _in_layout_of(x: Tensor, y: Tensor, layout: torch.memory_format) -> Tensor:
    """The output as a float convolution lays it out: oneDNN gives channels last, float only where the input is so."""
    is_channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=layout)
    return y.contiguous(memory_format=layout if is_channels_last else torch.contiguous_format)


def _transposed(op: QuantizedOp) -> QuantizedOp:
    """The same two-dimensional convolution with its spatial axes exchanged."""
    return attrs.evolve(
        op,
        weight=op.weight.transpose(2, 3).contiguous(),
        stride=op.stride[::-1],
        padding=op.padding[::-1],
        dilation=op.dilation[::-1],
    )
