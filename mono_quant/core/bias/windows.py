"""What a layer's weight is multiplied by: the rows of a linear layer's input, the windows of a convolution's.

A convolution is a linear map of windows: each output position sees one, ``(C, *kernel)``, of the padded input. What is
linear in the input can then be computed of the mean of all windows, padding included.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mono_quant.kernels.reference import FLOAT_CONVOLUTIONS
from mono_quant.modules import SmoothedLinear

__all__ = ["count_of_windows", "per_channel", "sum_of_windows", "window_shape", "windows"]


def window_shape(layer: nn.Module) -> tuple[int, ...]:
    """The shape of one window: ``(K,)`` or ``(C, *kernel)``."""
    channels, *kernel = layer.get_parameter("weight").shape[1:]
    return (channels * cast("int", getattr(layer, "groups", 1)), *kernel)


def windows(x: Tensor, layer: nn.Module) -> Tensor:
    """All windows of an input, as a view where that can be: ``(N, positions, K)`` or ``(N, *positions, C, *kernel)``.

    Args:
        x: ``(..., K)`` for a linear layer; ``(N, C, *spatial)`` or ``(C, *spatial)`` for a convolution.
        layer: it.
    """
    if isinstance(layer, nn.Linear):
        return _rows(x, layer)
    x = _padded(x, layer)
    for axis, (span, gap, step) in enumerate(_geometry(layer)):
        x = x.unfold(2 + axis, span, step)[..., ::gap]
    return x.movedim(1, len(_geometry(layer)) + 1)


def sum_of_windows(x: Tensor, layer: nn.Module) -> Tensor:
    """Their sum, ``(K,)`` or ``(C, *kernel)``, axis by axis: no number is touched for each tap of the whole kernel."""
    if isinstance(layer, nn.Linear):
        return _rows(x, layer).sum(dim=(0, 1))
    x = _padded(x, layer).sum(dim=0)
    for span, gap, step in _geometry(layer):
        x = x.unfold(1, span, step)[..., ::gap].sum(dim=1)  # the next axis then is the second
    return x


def count_of_windows(x: Tensor, layer: nn.Module) -> int:
    """How many there are."""
    if isinstance(layer, nn.Linear):
        return x.numel() // x.shape[-1]
    sizes = windows(x[:1].to("meta"), layer).shape[1:-1]
    return x.shape[0] * math.prod(sizes[: len(_geometry(layer))])


def per_channel(window: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    """What a weight makes of one window, ``(out,)``; ``window`` and ``weight`` of one dtype.

    ================  ============================
    window            weight
    ================  ============================
    ``(K,)``          ``(out, K)``
    ``(C, *kernel)``  ``(out, C/groups, *kernel)``
    ================  ============================
    """
    if window.ndim == 1:
        return weight @ window
    convolve = FLOAT_CONVOLUTIONS[f"conv{window.ndim - 1}d"]
    return torch.flatten(convolve(window[None], weight, None, 1, 0, 1, groups))


def _rows(x: Tensor, layer: nn.Linear) -> Tensor:
    x = layer.quantized_input(x) if isinstance(layer, SmoothedLinear) else x
    return x.reshape(x.shape[0] if x.ndim > 1 else 1, -1, x.shape[-1])


def _padded(x: Tensor, layer: nn.Module) -> Tensor:
    """``(N, C, *spatial)``, as the convolution pads it."""
    x = x if x.ndim == len(_geometry(layer)) + 2 else x[None]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padding = layer._reversed_padding_repeated_twice  # noqa: SLF001 - what the layer itself goes by
    return functional.pad(x, padding, mode=mode) if any(padding) else x  # type: ignore[arg-type]


def _geometry(layer: nn.Module) -> list[tuple[int, int, int]]:
    """For each spatial axis how far a window reaches, the gap between its taps, and the step to the next window."""
    sizes = zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)  # type: ignore[arg-type]
    return [(gap * (size - 1) + 1, gap, step) for size, gap, step in sizes]
