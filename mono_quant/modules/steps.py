"""A layer, its activation and the next one's quantization one by one, with any kernel."""

from collections.abc import Callable

from torch import Tensor

from mono_quant.core.affine import dequantize, quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.plugin_api.activation import ACTIVATIONS, Activation
from mono_quant.plugin_api.kernel import FusedRun

__all__ = ["Steps"]


class Steps(FusedRun):
    """What a layer does while it is watched: what is asked of it then does not depend on the kernel that was chosen.

    Args:
        run: the layer, packed by any kernel.
        scale: of its input.
        zero_point: of its input.
    """

    activations = frozenset(ACTIVATIONS)

    def __init__(self, run: Callable[[Tensor], Tensor], scale: float, zero_point: int) -> None:
        self._run = run
        self.input = (scale, zero_point)

    def fused(
        self, codes: Tensor, activation: Activation | None = None, output: tuple[float, int] | None = None
    ) -> Tensor:
        """One after the other."""
        y = self._run(dequantize(codes, *self.input))
        y = y if activation is None else activation(y)
        return y if output is None else quantize(y, *output, UINT8)
