"""The channels of a layer's input, with a part held back to try on it what was found."""

from torch import Tensor, nn

from mono_quant.core.held_back import ONE_IN, parts
from mono_quant.core.smoothing.input_channels import InputChannels
from mono_quant.core.smoothing.row_sample import RowSample

__all__ = ["TriedChannels"]


class TriedChannels(InputChannels):
    """`InputChannels` of all batches, those without what was held back, and some rows of that.

    Every fourth batch is held back, the second, the sixth, and so on: what is in one batch may be alike. Of one batch
    alone it is every fourth sample along the first axis.

    Args:
        layer: whose input is seen.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._batches = 0
        self._fitted, self._fitted_of_one = InputChannels(), InputChannels()
        self._sample = RowSample(layer.in_features, layer.weight.device)

    def __call__(self, x: Tensor) -> None:
        """Take in one input ``(N, ..., K)``; an empty one changes nothing."""
        x = x.detach() if x.ndim > 1 else x.detach()[None]
        if not x.numel():
            return
        if not self._batches:
            for part, is_held_back in parts(x):
                (self._sample if is_held_back else self._fitted_of_one)(part)
        elif self._batches == 1:
            self._sample.clear()
        seen = InputChannels()
        seen(x)
        seen.add_to(self)
        if self._batches % ONE_IN == 1:
            self._sample(x)
        else:
            seen.add_to(self._fitted)
        self._batches += 1

    @property
    def fitted(self) -> InputChannels:
        """Those of what was not held back."""
        return self._fitted if self._batches > 1 else self._fitted_of_one

    @property
    def held_back(self) -> Tensor:
        """Some rows of the rest, float32 ``(N, K)``; none where there was one sample."""
        return self._sample.kept
