"""What smoothing has to know of a layer's input: range and power of each channel."""

import torch
from torch import Tensor

from mono_quant.core.blocks import row_blocks
from mono_quant.core.smoothing.inputs import Inputs

__all__ = ["InputChannels"]


class InputChannels(Inputs):
    """Smallest and largest value and mean square of each channel, over all rows of all inputs: ``(..., K) → (K,)``."""

    def __init__(self) -> None:
        self._range: tuple[Tensor, Tensor] | None = None
        self._squares: Tensor | None = None
        self._rows = 0

    def __call__(self, x: Tensor) -> None:
        """Take in one input ``(..., K)``; an empty one changes nothing."""
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        if not rows.numel():
            return
        for block in row_blocks(rows):
            low, high = torch.aminmax(rows[block], dim=0)
            squares = torch.linalg.vector_norm(rows[block], dim=0, dtype=torch.float64).square_()
            self.take(low, high, squares, block.stop - block.start)

    def take(self, low: Tensor, high: Tensor, squares: Tensor, count: int) -> None:
        """Take in ``count`` rows by their smallest and largest numbers and sums of squares, ``(K,)`` each."""
        self._rows += count
        if self._range is None or self._squares is None:
            with torch.inference_mode(mode=False):  # ordinary tensors, which can be written into wherever a layer runs
                low, high, squares = (torch.empty_like(x).copy_(x) for x in (low, high, squares))
            self._range, self._squares = (low, high), squares
            return
        # Into what is there: small new tensors between a model's activations keep their memory from being used again.
        torch.minimum(low, self._range[0], out=self._range[0])
        torch.maximum(high, self._range[1], out=self._range[1])
        self._squares += squares

    def add_to(self, total: "InputChannels") -> None:
        """Let another take in all that this has seen."""
        if self._range is not None and self._squares is not None:
            total.take(*self._range, self._squares, self._rows)

    @property
    def range(self) -> tuple[Tensor, Tensor]:
        """``(min, max)``, float64 ``(K,)``.

        Raises:
            RuntimeError: when nothing was seen; so for `mean_square`.
        """
        if self._range is None:
            raise RuntimeError("no input was seen")
        return self._range[0].double(), self._range[1].double()

    @property
    def mean_square(self) -> Tensor:
        """``E[x²]``, float64 ``(K,)``."""
        if self._squares is None:
            raise RuntimeError("no input was seen")
        return self._squares / self._rows

    @property
    def fingerprint(self) -> bytes:
        """The bits of all this: the same for layers that were given the same."""
        return b"".join(x.cpu().contiguous().numpy().tobytes() for x in (*self.range, self.mean_square))

    @property
    def is_usable(self) -> bool:
        """Whether something was seen, all of it finite and not all of it zero."""
        if self._range is None or self._squares is None:
            return False
        return bool(torch.isfinite(self._squares).all()) and bool(self._squares.any())
