"""What rounding by outputs has to know of a layer's inputs: how each two of its columns go together."""

import torch
from torch import Tensor, nn

from mono_quant.core.rounding.input_rows import input_rows

__all__ = ["InputProducts"]

_ROWS = 256
"""Added at a time: of more, some CPUs' libraries give each thread a part, and the last bits depend on their number."""


class InputProducts:
    """``H = 2 XᵀX`` over all rows of all inputs, and how many rows there were.

    A change ``d`` of a row of the weight changes that output by ``X dᵀ``, of which the square is ``d H dᵀ / 2``. This
    takes ``K · K`` float32 numbers, ``G`` times for a convolution of G groups, however many rows there are.

    Args:
        layer: linear or a convolution, whose input is seen.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        weight = layer.get_parameter("weight")
        groups, columns = getattr(layer, "groups", 1), weight.shape[1:].numel()
        # Here, not with the first input: between a model's activations it would keep holes from being used again.
        with torch.inference_mode(mode=False):  # ordinary, to be written into wherever the layer runs
            self._sum = torch.zeros(groups, columns, columns, dtype=torch.float32, device=weight.device)
        self.rows = 0

    def __call__(self, x: Tensor) -> None:
        """Take in one input of the layer; an empty one changes nothing."""
        for rows_GNK in input_rows(self._layer, x.detach()):
            if not rows_GNK.shape[1]:
                continue
            for some in torch.split(rows_GNK, _ROWS, dim=1):
                rows = some.float()
                self._sum.baddbmm_(rows.mT, rows, alpha=2)
            self.rows += rows_GNK.shape[1]

    @property
    def hessian(self) -> Tensor:
        """``H``, float32 ``(G, K, K)``.

        Raises:
            RuntimeError: when nothing was seen.
        """
        if not self.rows:
            raise RuntimeError("no input was seen")
        return self._sum
