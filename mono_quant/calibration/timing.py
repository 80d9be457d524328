"""Timing models on a real batch, each run from the same state."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import nn

from mono_quant.calibration.runner import call, evaluating
from mono_quant.calibration.state import restoring
from mono_quant.core.latency import take_turns
from mono_quant.core.originals import Writes
from mono_quant.plugin_api.source import Batch

__all__ = ["time_in_turns"]

_PAUSE_S = 0.02


def time_in_turns(
    models: Sequence[nn.Module], batch: Batch, *, compiled: Sequence[nn.Module] = (), budget_s: float = 1.0
) -> list[float]:
    """Median milliseconds of a batch in each model, run in turn; each run begins from the same state.

    Args:
        models: in eval mode while they run, and afterwards as they were.
        batch: a real batch.
        compiled: others, timed after these in each turn; what runs inside them is not watched.
        budget_s: as in `take_turns`.

    Raises:
        CalibrationError: when a model does not run on it.
    """
    with ExitStack() as stack:
        stack.enter_context(evaluating(*models, compiled=compiled))
        states = [stack.enter_context(restoring(model)) for model in models]
        with Writes(*(state.originals for state in states)):  # a run that is not timed shows what others write into
            for model in models:
                call(model, batch.clone(), "a timed batch")

        def restored() -> Batch:
            for state in states:
                state.restore()
            return batch.clone()

        calls = [_on(model) for model in (*models, *compiled)]
        return take_turns(calls, restored, budget_s=budget_s, pause_s=_PAUSE_S if compiled else 0.0)


def _on(model: nn.Module) -> Callable[[Batch], Any]:
    return partial(call, model, what="a timed batch")
