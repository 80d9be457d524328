"""Quantized ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d``."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mono_quant.core.tensor_spec import TensorSpec, WeightSpec
from mono_quant.kernels.reference import FLOAT_CONVOLUTIONS
from mono_quant.modules.base import as_float32, is_traced
from mono_quant.modules.deferred import plain, settled, shape_of
from mono_quant.modules.kernel_module import KernelModule
from mono_quant.plugin_api.kernel import QuantizedOp

__all__ = ["QuantizedConv1d", "QuantizedConv2d", "QuantizedConv3d", "QuantizedConvNd"]

FloatConv = nn.Conv1d | nn.Conv2d | nn.Conv3d


class QuantizedConvNd(KernelModule):
    """A convolution with int8 codes; ``(N, C, *spatial)`` or ``(C, *spatial)``, like the float layer.

    Kernels pad with real zeros, the same on both sides. Any other padding is done on the float input before.
    """

    float_class: ClassVar[Callable[..., FloatConv]]

    def __init__(
        self,
        layer: FloatConv,
        spec: WeightSpec,
        stored: Mapping[str, Tensor],
        input_spec: TensorSpec,
        input_qparams: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(layer, spec, stored, input_spec, input_qparams)
        self.in_channels = layer.in_channels
        self.out_channels = layer.out_channels
        self.kernel_size: tuple[int, ...] = layer.kernel_size
        self.stride: tuple[int, ...] = layer.stride
        self.padding: str | tuple[int, ...] = layer.padding
        self.dilation: tuple[int, ...] = layer.dilation
        self.groups = layer.groups
        self.padding_mode = layer.padding_mode
        before, after = _sides(layer)
        is_even = layer.padding_mode == "zeros" and before == after
        self._kernel_padding: tuple[int, ...] = before if is_even else (0,) * len(before)
        self.geometry = (self.stride, self._kernel_padding, self.dilation, self.groups)
        # functional.pad counts from the last axis, both sides of an axis together
        self._float_padding: tuple[int, ...] = (
            ()
            if is_even
            else tuple(side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair)
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Conv2d's parameter
        """``(N, C, *spatial) → (N, out, *spatial)``, or both without N; dtype of the input."""
        # What a float layer would refuse is left to what follows: not when it is used, but here is where it is refused.
        input = settled(input)  # noqa: A001
        shape = shape_of(input)
        is_as_usual = len(shape) == len(self.kernel_size) + 2 and shape[1] == self.in_channels
        if is_as_usual and not self._float_padding and not is_traced() and (fused := self.fused(input)) is not None:
            return fused
        x = as_float32(plain(input))
        if x.ndim == self.weight.ndim - 1:
            x = x[None]
        if self._float_padding:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = functional.pad(x, self._float_padding, mode=mode)
        y = self.traceable(x) if is_traced() else self.run(x)
        return (y if input.ndim == self.weight.ndim else y[0]).to(input.dtype)

    def output_shape(self, shape: torch.Size) -> torch.Size:
        """``(N, out, *spatial)``; an axis that the kernel does not fit into has no element."""
        axes = zip(shape[2:], self._kernel_padding, self.dilation, self.kernel_size, self.stride, strict=True)
        spatial = [
            max(0, (size + 2 * pad - gap * (kernel - 1) - 1) // step + 1) for size, pad, gap, kernel, step in axes
        ]
        return torch.Size((shape[0], self.out_channels, *spatial))

    def op(self) -> QuantizedOp:
        """The arithmetic, for the kernels."""
        stride, padding, dilation, groups = self.geometry
        return QuantizedOp(
            kind=self.kind,
            weight=self.weight,
            weight_scale=self.weight_scale,
            bias=None if self.bias is None else self.bias.float(),
            input_scale=None if self.input_scale is None else float(self.input_scale),
            input_zero_point=None if self.input_zero_point is None else int(self.input_zero_point),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )

    def float_op(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The float layer's function, after any float padding."""
        conv = FLOAT_CONVOLUTIONS[self.kind]
        return conv(x, weight, bias, *self.geometry)

    def to_float(self, made: dict[int, nn.Parameter]) -> FloatConv:
        """The float convolution with the weight that the codes stand for."""
        layer = self.float_class(
            self.in_channels, self.out_channels, self.kernel_size, stride=self.stride, padding=self.padding,
            dilation=self.dilation, groups=self.groups, bias=self.bias is not None, padding_mode=self.padding_mode,
            device="meta",
        )  # fmt: skip
        layer.weight = self.float_parameter("weight", made)
        if self.bias is not None:
            layer.bias = nn.Parameter(self.bias.detach().to(layer.weight.dtype, copy=True))
        return layer.train(self.training)

    def extra_repr(self) -> str:
        """As the float layers show themselves, and how it is stored."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, "
            f"bias={self.bias is not None}, padding_mode={self.padding_mode}, {self.weight_specs['weight']}"
        )


class QuantizedConv1d(QuantizedConvNd):
    """Quantized ``nn.Conv1d``: ``(N, C, L)``."""

    kind = "conv1d"
    float_class = nn.Conv1d


class QuantizedConv2d(QuantizedConvNd):
    """Quantized ``nn.Conv2d``: ``(N, C, H, W)``."""

    kind = "conv2d"
    float_class = nn.Conv2d


class QuantizedConv3d(QuantizedConvNd):
    """Quantized ``nn.Conv3d``: ``(N, C, D, H, W)``."""

    kind = "conv3d"
    float_class = nn.Conv3d


def _sides(layer: FloatConv) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after each spatial axis, also for ``padding="same"``, where an odd one goes after."""
    if isinstance(layer.padding, str):
        if layer.padding == "valid":
            return (0,) * len(layer.kernel_size), (0,) * len(layer.kernel_size)
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return layer.padding, layer.padding
