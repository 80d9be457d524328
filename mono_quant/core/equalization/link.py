"""A layer of a chain, as equalization sees it: the range of its weights for each pair of channels, and of its input.

Shape suffixes: R rows (outputs), K input channels of a group, C all of them.
"""

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from mono_quant.core.granularity import PerTensor
from mono_quant.core.smoothing.sizes import floored, step
from mono_quant.core.tensor_spec import TensorSpec, WeightSpec

__all__ = ["Link"]

_LEAST_PART = 1e-5
"""Of the largest channel: what weaker ones are taken for."""


@attrs.frozen(eq=False)
class Link:
    """A layer.

    Args:
        low: of the weights from a channel to an output, over the taps of the kernel, float64 ``(R, K)``.
        high: likewise.
        squares: the sum of their squares, likewise.
        taps: how many there are.
        groups: of a convolution.
        weight_spec: how the weight is stored; the scales of groups of weights are taken for one of their row.
        input_range: ``(min, max)`` of each channel of the input, float64 ``(C,)``.
        mean_square: of each, likewise.
        input_spec: how the input is quantized; None where it stays float.
    """

    low: Tensor
    high: Tensor
    squares: Tensor
    taps: int
    groups: int
    weight_spec: WeightSpec
    input_range: tuple[Tensor, Tensor]
    mean_square: Tensor
    input_spec: TensorSpec | None

    @classmethod
    def of(
        cls, weight: Tensor, groups: int, specs: tuple[WeightSpec, TensorSpec | None], seen: Sequence[Tensor]
    ) -> "Link":
        """A layer by its weight, ``(R, K, *kernel)``, and min, max and mean square of its input's channels."""
        w = weight.detach().double().flatten(2) if weight.ndim > 2 else weight.detach().double()[..., None]  # noqa: PLR2004
        low, high, squares = w.amin(dim=2), w.amax(dim=2), w.square().sum(dim=2)
        ends = (seen[0].double(), seen[1].double())
        return cls(low, high, squares, w.shape[2], groups, specs[0], ends, seen[2].double(), specs[1])

    def outputs(self, factor_C: Tensor) -> Tensor:
        """The largest weight of each output, ``(R,)``, with the input's channels multiplied by a factor ``(C,)``."""
        return floored((self._largest * self._by_row(factor_C)).amax(dim=1), _LEAST_PART)

    def inputs(self, divisor_R: Tensor) -> Tensor:
        """That of each input channel, ``(C,)``, with the rows divided by a divisor ``(R,)``."""
        by_group = (self._largest / divisor_R[:, None]).reshape(self.groups, -1, self.low.shape[1])
        return floored(by_group.amax(dim=1).flatten(), _LEAST_PART)

    def weights_of_inputs(self) -> Tensor:
        """How much each input channel counts in the outputs: the sum of squares of its weights, ``(C,)``."""
        return self.squares.reshape(self.groups, -1, self.low.shape[1]).sum(dim=1).flatten()

    def noise(self, s_C: Tensor, t_R: Tensor, counts_R: Tensor) -> float:
        """The variance of rounding in its outputs as a part of their power, in units of the float output.

        As `mono_quant.core.smoothing.factor` has it: rounding to steps of ``Δ`` adds ``Δ²/12`` to each number, here
        with the input divided by ``s``, the weights ``(W_rk s_k) / t_r``, and the output multiplied by ``t`` again.

        Args:
            s_C: divisor of the input.
            t_R: divisor of the output.
            counts_R: how much each output counts for what comes next.
        """
        power_R = (self.squares * self._by_row(self.mean_square)).sum(dim=1)
        power = float((power_R * counts_R).sum())
        if not power:
            return 0.0
        s_RK = self._by_row(s_C)
        low_RK, high_RK = ((end * s_RK / t_R[:, None]) for end in (self.low, self.high))
        low_R, high_R = low_RK.amin(dim=1), high_RK.amax(dim=1)
        if isinstance(self.weight_spec.granularity, PerTensor):
            low_R, high_R = low_R.amin().expand_as(low_R), high_R.amax().expand_as(high_R)
        step_R = step(low_R, high_R, self.weight_spec) * t_R
        noise_R = step_R.square() * self._by_row(self.mean_square / s_C.square()).sum(dim=1) * self.taps
        if self.input_spec is not None:
            low, high = ((end / s_C) for end in self.input_range)
            step_of_input = step(low.amin(), high.amax(), self.input_spec)
            noise_R = noise_R + step_of_input.square() * (self.squares * s_RK.square()).sum(dim=1)
        return float((noise_R * counts_R).sum()) / 12 / power

    @property
    def _largest(self) -> Tensor:
        return torch.maximum(-self.low, self.high)

    def _by_row(self, channels_C: Tensor) -> Tensor:
        """What each row reads of numbers for all input channels: ``(C,) → (R, K)``."""
        by_group = channels_C.reshape(self.groups, 1, -1)
        return by_group.expand(-1, self.low.shape[0] // self.groups, -1).reshape(self.low.shape)
