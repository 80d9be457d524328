"""What equalization has to know of a layer's input: range and power of each channel, along any axis."""

import torch
from torch import Tensor

from mono_quant.core.smoothing.input_channels import InputChannels

__all__ = ["InputRanges"]


class InputRanges(InputChannels):
    """`InputChannels` of an input whose channels run along another axis than the last.

    Args:
        axis: counted from the end: -1 for ``(..., C)``, -3 for ``(N, C, H, W)``.
    """

    def __init__(self, axis: int) -> None:
        super().__init__()
        self._axis = axis

    def __call__(self, x: Tensor) -> None:
        """Take in one input; an empty one changes nothing."""
        x = x.detach().float()
        if not x.numel():
            return
        others = [axis for axis in range(x.ndim) if axis != x.ndim + self._axis]
        low, high = x.amin(dim=others), x.amax(dim=others)
        squares = torch.linalg.vector_norm(x, dim=others).double().square_()
        self.take(low, high, squares, x.numel() // x.shape[self._axis])
