"""What rounding by outputs has to know of a layer's inputs: how each two of its columns go together."""

import torch
from torch import Tensor, nn

from mono_quant.core.rounding.input_rows import input_rows

__all__ = ["InputProducts"]


class InputProducts:
    """``H = 2 XᵀX`` over all rows of all inputs, and how many rows there were.

    A change ``d`` of a row of the weight changes that output by ``X dᵀ``, of which the square is ``d H dᵀ / 2``. This
    takes ``K · K`` float32 numbers, ``G`` times for a convolution of G groups, however many rows there are.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._sum: Tensor | None = None
        self.rows = 0

    def __call__(self, x: Tensor) -> None:
        """Take in one input of the layer; an empty one changes nothing."""
        for rows_GNK in input_rows(self._layer, x.detach()):
            if not rows_GNK.shape[1]:
                continue
            rows = rows_GNK.float()
            if self._sum is None:
                self._sum = torch.zeros(len(rows), rows.shape[2], rows.shape[2], device=rows.device)
            self._sum.baddbmm_(rows.mT, rows, alpha=2)
            self.rows += rows.shape[1]

    @property
    def hessian(self) -> Tensor:
        """``H``, float32 ``(G, K, K)``.

        Raises:
            RuntimeError: when nothing was seen.
        """
        if self._sum is None:
            raise RuntimeError("no input was seen")
        return self._sum
