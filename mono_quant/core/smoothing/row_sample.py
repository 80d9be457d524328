"""Some of the rows of a layer's inputs."""

import torch
from torch import Tensor

__all__ = ["RowSample"]

_MOST = 256


class RowSample:
    """At most 256 rows, each as likely to be kept as any other; the same ones each time.

    Every row has a random key, and those with the largest are kept.
    """

    def __init__(self) -> None:
        self._random = torch.Generator().manual_seed(0)
        self._keys = torch.full((_MOST,), -1.0)
        self._rows: Tensor | None = None

    def __call__(self, x: Tensor) -> None:
        """Let the rows of an input ``(..., K)`` in."""
        rows = x.reshape(-1, x.shape[-1])
        if self._rows is None:
            with torch.inference_mode(mode=False):  # ordinary, to be written into wherever a layer runs
                self._rows = torch.zeros(_MOST, rows.shape[1], dtype=torch.float32, device=rows.device)
        keys = torch.rand(len(rows), generator=self._random)
        best = torch.cat([self._keys, keys]).topk(_MOST, sorted=False).indices
        coming = best[best >= _MOST] - _MOST
        going = torch.ones(_MOST, dtype=torch.bool).index_fill_(0, best[best < _MOST], 0).nonzero().squeeze(1)
        self._keys[going] = keys[coming]
        self._rows[going.to(rows.device)] = rows[coming.to(rows.device)].float()

    @property
    def kept(self) -> Tensor:
        """Those that are, float32 ``(N, K)``."""
        return torch.empty(0, 0) if self._rows is None else self._rows[(self._keys >= 0).to(self._rows.device)]
