"""How long a float and a quantized model take on the same batches, measured in turn."""

from collections import Counter
from collections.abc import Iterable

import attrs
import torch
from torch import Tensor, nn

from mono_quant.core.tensors import iter_tensors, map_tensors
from mono_quant.errors import CalibrationError
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import Batch
from mono_quant.summary import measure_latency

__all__ = ["Timing", "resized", "time_models"]


@attrs.frozen(kw_only=True)
class Timing:
    """What was measured at one size of batch.

    Args:
        batch_size: rows of the batch.
        float_ms: median milliseconds of the float model.
        quantized_ms: the same of the quantized one.
        speedup: the first over the second.
        kernels: kernel → how many layers ran on it.
    """

    batch_size: int
    float_ms: float
    quantized_ms: float
    speedup: float
    kernels: dict[str, int]


def time_models(
    model: nn.Module, quantized: nn.Module, batch: Batch, batch_sizes: Iterable[int] = (), *, budget_s: float = 1.0
) -> list[Timing]:
    """Time both models at several sizes of batch.

    Args:
        model: the float model.
        quantized: the quantized one, whose kernels are chosen anew at each size.
        batch: a real batch.
        batch_sizes: to cut or repeat its rows to; none for the batch as it is.
        budget_s: seconds for each size, as far as three runs of each model fit in.

    Raises:
        CalibrationError: when the batch has no rows, or a model does not run on it.
    """
    timings = []
    for size in tuple(batch_sizes) or (_rows(batch),):
        layers = [module for module in quantized.modules() if isinstance(module, QuantizedModule)]
        for layer in layers:
            layer.repack()
        float_ms, quantized_ms = measure_latency(model, quantized, resized(batch, size), budget_s=budget_s)
        kernels = Counter(name for layer in layers for name in layer.kernels_in_use)
        timings.append(
            Timing(
                batch_size=size,
                float_ms=float_ms,
                quantized_ms=quantized_ms,
                speedup=float_ms / quantized_ms,
                kernels=dict(kernels.most_common()),
            )
        )
    return timings


def resized(batch: Batch, size: int) -> Batch:
    """A batch of ``size`` rows: those of the given one, from the first on and over again.

    Rows are what the first dimension of its first tensor counts. Other tensors with as many are cut or repeated
    likewise, those with another number, as a mask for all rows has, are left.

    Raises:
        CalibrationError: when it has no rows.
    """
    rows = _rows(batch)
    if size == rows:
        return batch

    def resize(tensor: Tensor) -> Tensor:
        if not tensor.ndim or len(tensor) != rows:
            return tensor
        return tensor[torch.arange(size, device=tensor.device) % rows]

    return Batch(map_tensors(resize, batch.args), map_tensors(resize, dict(batch.kwargs)))


def _rows(batch: Batch) -> int:
    rows = next((len(tensor) for tensor in iter_tensors((batch.args, batch.kwargs)) if tensor.ndim), 0)
    if not rows:
        raise CalibrationError("the batch has no tensor with rows: its size cannot be known or changed")
    return rows
