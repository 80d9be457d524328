"""Some of the rows of a layer's inputs."""

import torch
from torch import Tensor

__all__ = ["RowSample"]

_ELEMENTS = 2**15
_FEWEST, _MOST = 32, 256
"""How many numbers are kept at most, in how many rows."""


class RowSample:
    """From 32 rows to 256, each as likely to be kept as any other; the same ones each time.

    Every row has a random key, and those with the largest are kept.

    Args:
        columns: of a row.
        device: of what is kept.
    """

    def __init__(self, columns: int, device: torch.device) -> None:
        size = min(max(_ELEMENTS // max(1, columns), _FEWEST), _MOST)
        # Here, not with the first input: between a model's activations it would keep holes from being used again.
        with torch.inference_mode(mode=False):  # ordinary, to be written into wherever a layer runs
            self._rows = torch.zeros(size, columns, dtype=torch.float32, device=device)
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._random = torch.Generator().manual_seed(0)
        with torch.inference_mode(mode=False):
            self._keys = torch.full((len(self._rows),), -1.0, dtype=torch.float32)

    def __call__(self, x: Tensor) -> None:
        """Let the rows of an input ``(..., K)`` in."""
        rows, size = x.reshape(-1, x.shape[-1]), len(self._rows)
        keys = torch.rand(len(rows), generator=self._random, dtype=torch.float32)
        best = torch.cat([self._keys, keys]).topk(size, sorted=False).indices
        coming = best[best >= size] - size
        going = torch.ones(size, dtype=torch.bool).index_fill_(0, best[best < size], 0).nonzero().squeeze(1)
        self._keys[going] = keys[coming]
        self._rows[going.to(self._rows.device)] = rows[coming.to(rows.device)].to(self._rows)

    @property
    def kept(self) -> Tensor:
        """Those that are, float32 ``(N, K)``."""
        return self._rows[(self._keys >= 0).to(self._rows.device)]
