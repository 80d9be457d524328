"""What equalization has to know of a layer's input: range and power of each channel, along any axis."""

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
        super().__call__(x.movedim(self._axis, -1))
