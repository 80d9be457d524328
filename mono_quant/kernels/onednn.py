"""oneDNN on plain tensors: the fastest convolutions, and the fastest Linear from a few hundred rows on."""

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from mono_quant.core.affine import quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.core.tensors import CHANNELS_LAST
from mono_quant.kernels.packed_by_shape import PackedByShape
from mono_quant.kernels.probe import failure, misfit, overflow, pairs_int16, quantized
from mono_quant.kernels.saturation import worst_conv, worst_linear
from mono_quant.plugin_api.activation import Activation
from mono_quant.plugin_api.kernel import FusedRun, Kernel, Op, QuantizedOp, Support

__all__ = ["OnednnKernel"]

_WORST = (worst_linear, worst_conv)
_POST_OPS = {
    "relu": ("relu", ""),
    "hardtanh": ("hardtanh", ""),
    "hardswish": ("hardswish", ""),
    "silu": ("swish", ""),
    "gelu": ("gelu", "none"),
    "gelu-tanh": ("gelu", "tanh"),
}
"""Activation → torch's name of oneDNN's operation on the result, and of its algorithm."""
_OF_CONVOLUTIONS = {"conv1d": frozenset(["relu"]), "conv2d": frozenset(["relu", "hardtanh", "hardswish", "silu"])}


class OnednnKernel(Kernel):
    """``onednn.qlinear_pointwise`` and ``onednn.qconv_pointwise``: uint8 in, float32 or uint8 out."""

    rounds_sums = True  # with AMX

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
        if op.kind == "linear":
            return _dynamic_linear(op) if op.input_scale is None else _Linear(op)
        if op.kind == "conv2d" and op.weight.shape[3] == 1 < op.weight.shape[2]:
            # A kernel that is one column runs up to ten times slower than one that is one row, with AVX-512.
            return _Column(op)
        return _Conv(op)


class _Linear(FusedRun):
    activations = frozenset(_POST_OPS)

    def __init__(self, op: QuantizedOp) -> None:
        super().__init__(op)
        self._weight = PackedByShape(op.weight, _packed_matrix)
        self._numbers = _numbers(op)
        self._run = torch.ops.onednn.qlinear_pointwise.default

    def fused(
        self, codes: Tensor, activation: Activation | None = None, output: tuple[float, int] | None = None
    ) -> Tensor:
        layer = (self._weight.for_input(codes.shape), *self._numbers)
        y: Tensor = self._run(codes, *self.input, *layer, *_given_as(output), *_post_op(activation))
        return y


def _dynamic_linear(op: QuantizedOp) -> Callable[[Tensor], Tensor]:
    weight, numbers = PackedByShape(op.weight, _packed_matrix), _numbers(op)
    run = torch.ops.onednn.qlinear_pointwise.default

    def linear(x: Tensor) -> Tensor:
        qparams = op.input_qparams(x)
        layer = (weight.for_input(x.shape), *numbers)
        y: Tensor = run(quantize(x, *qparams, UINT8), *qparams, *layer, *_given_as(None), *_post_op(None))
        return y

    return linear


class _Conv(FusedRun):
    def __init__(self, op: QuantizedOp) -> None:
        super().__init__(op)
        self.activations = _OF_CONVOLUTIONS.get(op.kind, frozenset())
        self._layout = CHANNELS_LAST.get(op.weight.ndim, torch.contiguous_format)
        geometry = (op.stride, op.padding, op.dilation, op.groups)
        numbers = _numbers(op)
        self._layer = (*numbers, *geometry)

        def pack(weight: Tensor, shape: list[int] | None) -> Tensor:
            packed: Tensor = torch.ops.onednn.qconv_prepack(weight, numbers[0], *self.input, *geometry, shape)
            return packed

        self._weight = PackedByShape(op.weight, pack)
        self._kernel_size = list(op.weight.shape[2:])
        self._run = torch.ops.onednn.qconv_pointwise.default

    def __call__(self, x: Tensor) -> Tensor:
        return _in_layout_of(x, super().__call__(x), self._layout)

    def fused(
        self, codes: Tensor, activation: Activation | None = None, output: tuple[float, int] | None = None
    ) -> Tensor:
        codes = codes.contiguous(memory_format=self._layout)
        layer = (self._weight.for_input(codes.shape), *self._layer)
        y: Tensor = self._run(codes, *self.input, *layer, *_given_as(output), *_post_op(activation))
        if not y.numel():  # oneDNN gives an empty result of any shape where the float layer raises
            raise RuntimeError(f"an input of {list(codes.shape)} is smaller than the kernel {self._kernel_size}")
        return y


class _Column(FusedRun):
    """A two-dimensional convolution computed with its spatial axes exchanged."""

    def __init__(self, op: QuantizedOp) -> None:
        super().__init__(op)
        self._row = _Conv(_transposed(op))
        self.activations = self._row.activations

    def __call__(self, x: Tensor) -> Tensor:
        return _in_layout_of(x, super().__call__(x), torch.channels_last)

    def fused(
        self, codes: Tensor, activation: Activation | None = None, output: tuple[float, int] | None = None
    ) -> Tensor:
        return self._row.fused(codes.transpose(2, 3), activation, output).transpose(2, 3)


def _packed_matrix(weight: Tensor, shape: list[int] | None) -> Tensor:
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight.contiguous(), shape)  # it takes no notice of strides
    return packed


def _numbers(op: QuantizedOp) -> tuple[Tensor, Tensor, Tensor | None]:
    """Scales and zero points of the weight, and the bias: copies, for an output can be computed after they change."""
    zero_points = torch.zeros(len(op.weight_scale), dtype=torch.long)
    return op.weight_scale.clone(), zero_points, None if op.bias is None else op.bias.clone()


def _given_as(output: tuple[float, int] | None) -> tuple[float, int, torch.dtype]:
    """How torch's operators are told what to give."""
    return (1.0, 0, torch.float32) if output is None else (*output, torch.uint8)


def _post_op(activation: Activation | None) -> tuple[str, list[float], str]:
    """How they are told what to apply."""
    if activation is None:
        return "none", [], ""
    name, algorithm = _POST_OPS[activation.name]
    return name, list(activation.arguments), algorithm


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
