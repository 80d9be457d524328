"""The channels of a layer's input, with a part held back to try on it what was found."""

from torch import Tensor, nn

from mono_quant.core.held_back import is_held_back, parts
from mono_quant.core.smoothing.input_channels import InputChannels
from mono_quant.core.smoothing.row_sample import RowSample

__all__ = ["TriedChannels"]


class TriedChannels(InputChannels):
    """`InputChannels` of all inputs, those without what was held back, and some rows of that.

    One input of each four is held back, and whole, for what is in one batch may be alike. Where there is one input
    alone it is every fourth sample along the first axis.

    Args:
        layer: whose input is seen.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._inputs = 0
        self._fitted, self._fitted_of_one = InputChannels(), InputChannels()
        self._sample = RowSample(layer.weight.shape[1], layer.weight.device)

    def __call__(self, x: Tensor) -> None:
        """Take in one input ``(N, ..., K)``; an empty one changes nothing."""
        x = x.detach() if x.ndim > 1 else x.detach()[None]
        if not x.numel():
            return
        if not self._inputs:
            for part, is_apart in parts(x):
                (self._sample if is_apart else self._fitted_of_one)(part)
        elif self._inputs == 1:
            self._sample.clear()
        seen = InputChannels()
        seen(x)
        seen.add_to(self)
        if is_held_back(self._inputs):
            self._sample(x)
        else:
            seen.add_to(self._fitted)
        self._inputs += 1

    @property
    def fitted(self) -> InputChannels:
        """Those of what was not held back."""
        return self._fitted if self._inputs > 1 else self._fitted_of_one

    @property
    def held_back(self) -> Tensor:
        """Some rows of the rest, float32 ``(N, K)``; none where there was one sample."""
        return self._sample.kept
