"""How long a float and a quantized model take on the same batches, the latter by every runtime, measured in turn."""

from collections.abc import Iterable, Mapping, Sequence

import attrs
from torch import nn

from mono_quant.calibration.rows import resized, rows_of
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api import Batch
from mono_quant.runtimes import NamedRuntime, RuntimeTiming, compare_runtimes, remember_comparison

__all__ = ["FLOAT", "Timing", "time_models"]

FLOAT = "float"
"""In the place of a runtime: the float model, eagerly."""


@attrs.frozen(kw_only=True)
class Timing(RuntimeTiming):
    """What was measured of one runtime at one size of batch.

    Args:
        batch_size: rows of the batch.
        speedup: how many times as fast as the float model; None when it does not run the model.
    """

    batch_size: int
    speedup: float | None = None


def time_models(
    model: nn.Module,
    quantized: nn.Module,
    batch: Batch,
    runtimes: Sequence[NamedRuntime],
    batch_sizes: Iterable[int] = (),
    *,
    budget_s: float = 60.0,
    versions: Mapping[str, str] | None = None,
) -> list[Timing]:
    """Time the float model, and the quantized one by each runtime, at several sizes of batch.

    Args:
        model: the float model.
        quantized: the quantized one, whose kernels are chosen anew at each size.
        batch: a real batch.
        runtimes: to compare.
        batch_sizes: to cut or repeat its rows to; none for the batch as it is.
        budget_s: seconds for each size after which no further runtime is begun.
        versions: of who gives the runtimes, where these are all there are: then the measurement is kept, and
            ``runtime="auto"`` asks for it.

    Raises:
        CalibrationError: when the batch has no rows, or a model does not run on it.
    """
    timings: list[Timing] = []
    for size in tuple(batch_sizes) or (rows_of(batch),):
        for module in quantized.modules():
            if isinstance(module, QuantizedModule):
                module.repack()
        example = resized(batch, size)
        (of_float, *measured), _ = compare_runtimes(
            quantized, example, runtimes, beside={FLOAT: model}, budget_s=budget_s
        )
        if versions is not None:
            remember_comparison(quantized, example, runtimes, versions, measured)
        timings += [_of_size(size, one, of_float.ms) for one in (of_float, *measured)]
    return timings


def _of_size(size: int, timing: RuntimeTiming, float_ms: float | None) -> Timing:
    speedup = float_ms / timing.ms if float_ms and timing.ms else None
    return Timing(batch_size=size, speedup=speedup, **attrs.asdict(timing))
