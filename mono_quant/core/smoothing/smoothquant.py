"""The ``smoothquant`` algorithm: factors by which inputs are quantized with less noise."""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from mono_quant.core.smoothing.factor import best_divisor
from mono_quant.core.smoothing.input_scaling import InputScaling
from mono_quant.core.smoothing.reader import Reader
from mono_quant.core.smoothing.trial import helps
from mono_quant.core.smoothing.tried_channels import TriedChannels
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api.plan import LayerPlan

__all__ = ["SmoothQuant"]

_GRID = tuple(step / 20 for step in range(21))


class SmoothQuant(InputScaling[TriedChannels]):
    """Evens out the channels of the inputs of ``nn.Linear`` that are quantized.

    Layers whose noise would not fall by a tenth stay as they are, and those whose outputs on inputs that were held back
    would be further from float.

    Args:
        alpha: how much of the spread goes over to the weights, from 0 to 1; ``"auto"`` chooses for each layer.
        insert: as for `InputScaling`.
        readers: likewise.
    """

    name = "smoothquant"

    def __init__(
        self,
        *,
        alpha: float | Literal["auto"] = "auto",
        insert: bool = True,
        readers: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if alpha != "auto" and not (isinstance(alpha, int | float) and 0 <= alpha <= 1):
            raise ConfigurationError(f'alpha must be "auto" or from 0 to 1, got {alpha!r}')
        super().__init__(insert=insert, readers=readers)
        self._alphas = _GRID if alpha == "auto" else (float(alpha),)

    def inputs(self, layer: nn.Linear, plan: LayerPlan) -> TriedChannels | None:
        """The channels of what is quantized."""
        return None if plan.input is None else TriedChannels(layer)

    def factor(self, readers: Sequence[Reader[TriedChannels]], *, is_free: bool) -> Tensor | None:
        """The inverse of the divisor of least noise, where one that is found without the rows held back helps these."""
        del is_free
        if readers[0].inputs.held_back.numel():
            fitted = [Reader(r.weight, r.spec, r.input_spec, r.inputs.fitted) for r in readers]
            tried_K = best_divisor(fitted, self._alphas)
            if tried_K is None or not helps(readers, tried_K):
                return None
        s_K = best_divisor(readers, self._alphas)
        return None if s_K is None else s_K.reciprocal().float()
