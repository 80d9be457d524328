"""What AWQ has to know of a layer's inputs: how large each channel is, and how each two go together."""

import torch
from torch import Tensor, nn

from mono_quant.core.rounding.input_products import InputProducts
from mono_quant.core.smoothing.inputs import Inputs

__all__ = ["SeenInputs"]


class SeenInputs(Inputs):
    """The mean of ``|x|`` of each channel and ``H = 2 XᵀX``, over all rows of all inputs: ``(..., K) → (K,), (K, K)``.

    ``H`` gives the error of a layer's outputs on all rows, for any change of its weight; see `InputProducts`.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self._products = InputProducts(layer)
        self._sums: Tensor | None = None

    def __call__(self, x: Tensor) -> None:
        """Take in one input; an empty one changes nothing."""
        rows = x.detach().reshape(-1, x.shape[-1])
        if not rows.numel():
            return
        self._products(rows)
        sums = torch.stack([rows.abs().sum(0, dtype=torch.float64), rows.sum(0, dtype=torch.float64)])
        with torch.inference_mode(mode=False):  # an ordinary tensor can be written into wherever the layer runs
            self._sums = torch.zeros_like(sums) if self._sums is None else self._sums
        self._sums += sums

    @property
    def magnitude(self) -> Tensor:
        """The mean of ``|x|``, float64 ``(K,)``.

        Raises:
            RuntimeError: when nothing was seen; so for `hessian` and `fingerprint`.
        """
        return self._seen[0] / self._products.rows

    @property
    def hessian(self) -> Tensor:
        """``H``, float32 ``(K, K)``."""
        return self._products.hessian[0]

    @property
    def fingerprint(self) -> bytes:
        """The bits of the sums of ``|x|`` and of ``x``: the same for layers that were given the same."""
        bits: bytes = self._seen.cpu().numpy().tobytes()
        return bits

    @property
    def is_usable(self) -> bool:
        """Whether something was seen, all of it finite and not all of it zero."""
        if self._sums is None:
            return False
        return bool(self._sums[0].any()) and bool(torch.isfinite(self.hessian).all())

    @property
    def _seen(self) -> Tensor:
        if self._sums is None:
            raise RuntimeError("no input was seen")
        return self._sums
