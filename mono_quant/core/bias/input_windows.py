"""What bias correction has to know of a layer's input."""

import torch
from torch import Tensor, nn

from mono_quant.core.bias.window_sample import WindowSample
from mono_quant.core.held_back import parts
from mono_quant.modules import SmoothedLinear

__all__ = ["InputWindows"]


class InputWindows:
    """The windows of a layer's inputs, those of every fourth sample apart: held back, to try a correction on.

    They are counted over all batches, see `mono_quant.core.held_back`. Memory is that of two means and two samples of
    windows, however many there are.

    Args:
        layer: whose input is seen.
        keeps_windows: as of `WindowSample`.
    """

    def __init__(self, layer: nn.Module, *, keeps_windows: bool) -> None:
        self._layer = layer
        self._keeps_windows = keeps_windows
        self.fitted = WindowSample(layer, keeps_windows=keeps_windows)
        self.held_back = WindowSample(layer, keeps_windows=keeps_windows)
        self._samples = 0

    def __call__(self, x: Tensor) -> None:
        """Take in one input; an empty one changes nothing."""
        x = x.detach()
        if not x.numel():
            return
        ndim = x.ndim if isinstance(self._layer, nn.Linear) else len(self._layer.kernel_size) + 2  # type: ignore[arg-type]
        x = x[None] if x.ndim < max(ndim, 2) else x
        ends = self._ends(x) if self._keeps_windows else x.new_zeros(2)
        for part, is_held_back in parts(x, self._samples):
            (self.held_back if is_held_back else self.fitted).add(part, ends)
        self._samples += x.shape[0]

    def _ends(self, x: Tensor) -> Tensor:
        """The smallest and the largest number that is quantized, ``(2,)``."""
        read = self._layer.quantized_input(x) if isinstance(self._layer, SmoothedLinear) else x
        return torch.stack(torch.aminmax(read))

    @property
    def is_usable(self) -> bool:
        """Whether there are samples of both kinds."""
        return bool(self.fitted.count and self.held_back.count)
