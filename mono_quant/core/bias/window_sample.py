"""The mean of all windows of a layer's input, and a few of them."""

import math

import torch
from torch import Tensor, nn

from mono_quant.core.affine import choose_qparams, dequantize, quantize
from mono_quant.core.bias.windows import count_of_windows, sum_of_windows, window_shape, windows
from mono_quant.core.granularity import PerToken
from mono_quant.core.tensor_spec import TensorSpec

__all__ = ["WindowSample"]

_ELEMENTS = 2**15
_FEWEST, _MOST = 32, 1024
"""How many numbers are kept at most, in how many windows."""


class WindowSample:
    """The mean of all windows, and a sample of them: each is as likely to be in it as any other.

    The error of rounding an input is known only with its scale, when all data have passed: it is computed of the
    sample, of 32 to 1024 windows. A window of a batch of ``n`` has a key ``log(u) · n'/n`` with ``u`` uniform, where
    ``n'`` of the batch are looked at; those with the largest keys are kept (Efraimidis and Spirakis 2006,
    https://doi.org/10.1016/j.ipl.2005.11.003). The numbers are always the same ones.

    Args:
        layer: whose input is seen.
        keeps_windows: whether a sample is needed; without, there is the mean alone.
    """

    def __init__(self, layer: nn.Module, *, keeps_windows: bool) -> None:
        self._layer = layer
        self._keeps_windows = keeps_windows
        # Here, not with the first input: between a model's activations these would keep holes from being used again.
        shape, device = window_shape(layer), layer.get_parameter("weight").device
        size = min(max(_ELEMENTS // max(1, math.prod(shape)), _FEWEST), _MOST) if keeps_windows else 0
        with torch.inference_mode(mode=False):  # ordinary tensors can be written into wherever the layer runs
            self._sum = torch.zeros(shape, dtype=torch.float64, device=device)
            self._windows = torch.zeros(size, *shape, dtype=torch.float32, device=device)
            self._ends = torch.zeros(size, 2, dtype=torch.float32, device=device)
            self._keys = torch.full((size,), -math.inf, dtype=torch.float64)
        self._power = 0.0
        self.count = 0
        self._random = torch.Generator().manual_seed(0)

    def add(self, x: Tensor, ends: Tensor) -> None:
        """Take in samples.

        Args:
            x: ``(N, ...)``, float; may be empty.
            ends: ``(2,)``, the smallest and the largest number of the input that they are part of.
        """
        if not x.numel():
            return
        x = x if x.dtype is torch.float64 else x.float()
        total = x.sum(dim=0, keepdim=True).double()  # of few numbers each: float64 is slow
        self._sum += sum_of_windows(total, self._layer)
        count = count_of_windows(x, self._layer)
        self._power += float(torch.linalg.vector_norm(x)) ** 2 / x.numel() * count
        self.count += count
        if self._keeps_windows:
            self._sample(x, count, ends)

    @property
    def mean(self) -> Tensor:
        """Of the windows, float64 ``(K,)`` or ``(C, *kernel)``.

        Raises:
            RuntimeError: when nothing was seen; so for `rounding_error`.
        """
        if not self.count:
            raise RuntimeError("no input was seen")
        return self._sum / self.count

    @property
    def mean_share(self) -> float:
        """The part of the power of a window that is in its mean, from 0 to 1; padding not counted."""
        power = self._power / max(1, self.count) * self._sum.numel()
        return float(self.mean.square().sum()) / power if power else 0.0

    def rounding_error(self, spec: TensorSpec, qparams: tuple[Tensor, Tensor] | None) -> Tensor:
        """The mean of a window before it is quantized less that after, over the sample; shape and dtype of `mean`.

        Args:
            spec: how the input is quantized.
            qparams: scale and zero point, ``()`` each; None where each input, or each row, has its own.
        """
        is_taken = self._keys.isfinite().to(self._windows.device)
        rows, ends = self._windows[is_taken], self._ends[is_taken]
        if not len(rows):
            raise RuntimeError("no input was seen")
        if qparams is None:
            of_rows = isinstance(spec.granularity, PerToken)
            low, high = torch.aminmax(rows.flatten(1), dim=1) if of_rows else ends.unbind(dim=1)
            each = (-1, *[1] * (rows.ndim - 1))
            scale, zero_point = choose_qparams(low, high, spec.dtype, symmetric=spec.symmetric)
            qparams = scale.reshape(each), zero_point.reshape(each)
        rounded = dequantize(quantize(rows, *qparams, spec.dtype), *qparams)
        return (rows.double() - rounded.double()).mean(dim=0)

    def _sample(self, x: Tensor, count: int, ends: Tensor) -> None:
        """Let windows of these samples in."""
        every, size = windows(x, self._layer), len(self._keys)
        places = every.shape[: every.ndim - self._sum.ndim]
        looked_at = torch.arange(count)
        if count > size:
            looked_at = torch.randint(count, (size,), generator=self._random)
        keys = torch.rand(len(looked_at), generator=self._random, dtype=torch.float64).log() * len(looked_at) / count
        best = torch.cat([self._keys, keys]).topk(size).indices
        coming = best[best >= size] - size
        going = torch.ones(size, dtype=torch.bool).index_fill_(0, best[best < size], 0).nonzero().squeeze(1)
        going = going[: len(coming)]
        self._keys[going] = keys[coming]
        found = every[torch.unravel_index(looked_at[coming].to(x.device), places)]
        self._windows[going.to(x.device)] = found.to(self._windows)
        self._ends[going.to(x.device)] = ends.to(self._ends)
