"""How far a layer's output is from that of its float layer, and how much of that is a constant of each channel."""

from torch import Tensor

from mono_quant.core.blocks import row_blocks
from mono_quant.core.sqnr import energy, ratio_db, without_common_infinities
from mono_quant.core.tensors import iter_tensors
from mono_quant.modules.deferred import plain

__all__ = ["OutputFigures"]


class OutputFigures:
    """Energies over all calls of a layer.

    Args:
        channel_axis: of the output's channels, counted from the end; None when it is not known.
    """

    def __init__(self, channel_axis: int | None) -> None:
        self._axis = channel_axis
        self._energies: list[tuple[float, float]] = []
        self._errors: Tensor | None = None
        self._rows = 0
        self._is_comparable = True

    def give_up(self) -> None:
        """Say nothing of the output, whatever is known of it."""
        self._is_comparable = False

    def __call__(self, expected: object, actual: object) -> None:
        """Take in what both gave in one call: the float tensors in it, in their order."""
        pairs = [list(iter_tensors(value)) for value in (expected, actual)]
        if [x.shape for x in pairs[0]] != [y.shape for y in pairs[1]]:
            self.give_up()
            return
        for x, y in zip(*pairs, strict=True):
            if x.is_floating_point() and x.numel():
                given = plain(y).detach()
                self._energies.append(energy(*without_common_infinities(x.detach(), given)))
                if self._axis is not None:
                    self._add_errors(x.detach(), given, self._axis)

    @property
    def sqnr_db(self) -> float | None:
        """SQNR of all outputs together; None when nothing was compared."""
        return ratio_db(*self._total) if self._energies and self._is_comparable else None

    @property
    def shift_percent(self) -> float | None:
        """Share of the noise that the mean error of each channel makes; 0 without noise, None for a single row.

        Of n rows whose errors are independent the means make 1/n of the noise, and that is taken off. With a mean
        square error N / n of a row, and S / n of the means,

            share = (n S / N - 1) / (n - 1)
        """
        if self.sqnr_db is None or self._errors is None or self._rows == 1:
            return None
        _, noise = self._total
        if not noise:
            return 0.0
        of_means = float(self._errors.square().sum()) / noise
        return 100 * max((of_means - 1) / (self._rows - 1), 0.0)

    @property
    def _total(self) -> tuple[float, float]:
        return sum(signal for signal, _ in self._energies), sum(noise for _, noise in self._energies)

    def _add_errors(self, x: Tensor, y: Tensor, axis: int) -> None:
        x, y = (z[None] if z.ndim == -axis else z for z in (x, y))
        others = [other for other in range(x.ndim) if other != x.ndim + axis]
        self._rows += x.numel() // x.shape[axis]
        for block in row_blocks(x):
            errors = (y[block].double() - x[block].double()).sum(dim=others)
            self._errors = errors if self._errors is None else self._errors + errors
