"""The ``smoothquant`` algorithm: factors by which inputs are quantized with less noise."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from mono_quant.core.smoothing.factor import best_divisor
from mono_quant.core.smoothing.input_channels import InputChannels
from mono_quant.core.smoothing.input_scaling import InputScaling
from mono_quant.core.smoothing.reader import Reader
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api.plan import LayerPlan

__all__ = ["SmoothQuant"]

_GRID = tuple(step / 20 for step in range(21))


class SmoothQuant(InputScaling[InputChannels]):
    """Evens out the channels of the inputs of ``nn.Linear`` that are quantized.

    Layers whose noise would not fall by a tenth stay as they are.

    Args:
        alpha: how much of the spread goes over to the weights, from 0 to 1; ``"auto"`` chooses for each layer.
        insert: as for `InputScaling`.
    """

    name = "smoothquant"

    def __init__(self, *, alpha: float | Literal["auto"] = "auto", insert: bool = True) -> None:
        if alpha != "auto" and not (isinstance(alpha, int | float) and 0 <= alpha <= 1):
            raise ConfigurationError(f'alpha must be "auto" or from 0 to 1, got {alpha!r}')
        super().__init__(insert=insert)
        self._alphas = _GRID if alpha == "auto" else (float(alpha),)

    def inputs(self, layer: nn.Linear, plan: LayerPlan) -> InputChannels | None:
        """The channels of what is quantized."""
        del layer
        return None if plan.input is None else InputChannels()

    def factor(self, readers: Sequence[Reader[InputChannels]], *, is_free: bool) -> Tensor | None:
        """The inverse of the divisor of least noise."""
        del is_free
        s_K = best_divisor(readers, self._alphas)
        return None if s_K is None else s_K.reciprocal().float()
