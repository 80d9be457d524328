"""What a layer's weight is multiplied by: the rows of a linear layer's input, the windows of a convolution's.

A convolution is a linear map of windows: each output position sees one, ``(C, *kernel)``, of the padded input. What is
linear in the input can then be computed of the mean of all windows, padding included.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mono_quant.kernels.reference import FLOAT_CONVOLUTIONS
from mono_quant.modules import SmoothedLinear

__all__ = ["per_channel", "windows"]


def windows(x: Tensor, layer: nn.Module) -> Tensor:
    """All windows of an input, as a view where that can be: ``(N, positions, K)`` or ``(N, *positions, C, *kernel)``.

    Args:
        x: ``(..., K)`` for a linear layer; ``(N, C, *spatial)`` or ``(C, *spatial)`` for a convolution.
        layer: it.
    """
    if isinstance(layer, nn.Linear):
        x = layer.quantized_input(x) if isinstance(layer, SmoothedLinear) else x
        return x.reshape(x.shape[0] if x.ndim > 1 else 1, -1, x.shape[-1])
    axes = len(layer.kernel_size)  # type: ignore[arg-type] # of convolutions, from here on
    x = x if x.ndim == axes + 2 else x[None]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = functional.pad(x, layer._reversed_padding_repeated_twice, mode=mode)  # type: ignore[arg-type] # noqa: SLF001
    geometry = zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)  # type: ignore[arg-type]
    for axis, (size, gap, step) in enumerate(geometry):
        x = x.unfold(2 + axis, gap * (size - 1) + 1, step)[..., ::gap]
    return x.movedim(1, 1 + axes)


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
