"""What the rows of a weight are multiplied by: the input of a linear layer, or the patches that a convolution sees.

A convolution is a linear layer of its patches: ``y = P · Wᵀ`` with ``W [out, C/G · kernel]`` (im2col). With G groups it
is G linear layers of as many patches.
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional

from mono_quant.core.blocks import row_blocks

__all__ = ["Convolution", "input_rows"]

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


def input_rows(layer: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """The rows, ``(G, N, K)`` at a time, of one input, where ``K`` is the weight's ``shape[1:].numel()``.

    ======================  =============================================  ===
    layer                   input                                          G
    ======================  =============================================  ===
    ``nn.Linear``           ``(..., K)``                                   1
    ``nn.Conv1d/2d/3d``     ``(N, C, *spatial)``, or that without ``N``    its groups
    ======================  =============================================  ===
    """
    if not isinstance(layer, Convolution):
        yield x.reshape(1, -1, x.shape[-1])
        return
    samples = x if x.ndim == layer.weight.ndim else x[None]
    for block in row_blocks(samples):  # patches overlap: each number of the input is in many of them
        yield _patches(layer, samples[block])


def _patches(layer: Convolution, x: Tensor) -> Tensor:
    """``(N, C, *spatial) → (G, N · positions, C/G · kernel)``."""
    axes = len(layer.kernel_size)
    if any(padding := layer._reversed_padding_repeated_twice):  # noqa: SLF001 - torch has worked "same" out here
        x = functional.pad(x, padding, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    for axis, (size, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), start=2
    ):
        x = x.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
    x = x.reshape(len(x), layer.groups, x.shape[1] // layer.groups, *x.shape[2:])  # (N, G, C/G, *positions, *kernel)
    positions, kernel = range(3, 3 + axes), range(3 + axes, 3 + 2 * axes)
    x = x.permute(1, 0, *positions, 2, *kernel)
    return x.reshape(layer.groups, -1, layer.weight[0].numel())
