"""The ``awq`` algorithm: for which layers it is, and how much a factor must gain."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mono_quant.core.awq.search import best_factor
from mono_quant.core.awq.seen_inputs import SeenInputs
from mono_quant.core.smoothing.input_scaling import InputScaling
from mono_quant.core.smoothing.reader import Reader
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api.plan import LayerPlan

__all__ = ["AWQ"]

_GAINS = 0.999
"""The part of the error that may be left at most; a smaller gain could be an error of the sums themselves."""
_WORTH_IT = 0.9
"""The same where the layer has to multiply its input itself."""


class AWQ(InputScaling[SeenInputs]):
    """Multiplies weights of ``nn.Linear`` that meet large inputs, where only weights are quantized.

    How far is found for each input by trying: the error of the outputs on all calibration data, with weights rounded
    as the layer's scheme rounds them. Where nothing that is tried has less error, nothing is multiplied.

    Args:
        grid: how many steps the exponent takes from 0 to 1, in each of both formulas; the time goes with it.
        insert: as for `InputScaling`.
        readers: likewise.
        max_columns: layers with more inputs are left alone, since ``H`` has this number squared.
    """

    name = "awq"

    def __init__(
        self,
        *,
        grid: int = 10,
        insert: bool = True,
        readers: Mapping[str, Sequence[str]] | None = None,
        max_columns: int = 16384,
    ) -> None:
        for option, value in (("grid", grid), ("max_columns", max_columns)):
            if type(value) is not int or value < 1:
                raise ConfigurationError(f"{option} must be a whole number of at least 1, got {value!r}")
        super().__init__(insert=insert, readers=readers)
        self._grid = grid
        self._max_columns = max_columns

    def inputs(self, layer: nn.Linear, plan: LayerPlan) -> SeenInputs | None:
        """The products of the inputs of layers whose weights alone are stored with scales."""
        spec = plan.weights["weight"]
        is_for = plan.input is None and spec.is_scaled and spec.axis == 0
        return SeenInputs(layer) if is_for and layer.in_features <= self._max_columns else None

    def factor(self, readers: Sequence[Reader[SeenInputs]], *, is_free: bool) -> Tensor | None:
        """The best that was tried."""
        return best_factor(readers, grid=self._grid, at_most=_GAINS if is_free else _WORTH_IT)
