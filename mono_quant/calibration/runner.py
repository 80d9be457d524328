"""Running batches through a model while observers watch its layers."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from traceback import walk_tb
from typing import Any, Protocol

import torch
from torch import nn

from mono_quant.calibration.collecting import Collector
from mono_quant.calibration.data import count_batches, describe, iterate_batches
from mono_quant.calibration.observing import Running, observing
from mono_quant.calibration.progress import with_progress
from mono_quant.calibration.state import restoring
from mono_quant.core.originals import Writes, prepare_watching
from mono_quant.core.tensors import is_plain, iter_tensors, versions
from mono_quant.errors import CalibrationError, ConfigurationError, MonoQuantError
from mono_quant.plugin_api.observer import Observer
from mono_quant.plugin_api.source import Batch

__all__ = ["call", "evaluating", "feed", "run_calibration"]

_SMALL_BUFFER = 2**16
"""Bytes."""
_LONG_RUN = 50


class _Watch(Protocol):
    """Something besides the observers that follows each forward pass."""

    def batch(self) -> Any: ...  # noqa: ANN401 - a context manager around one forward pass


def run_calibration(
    model: nn.Module,
    calibration_data: Iterable[Any],
    observers: Mapping[str, Observer] | None = None,
    num_samples: int = 150,
    show_progress: bool | None = None,  # noqa: FBT001 - the signature of the earliest interface
) -> dict[str, Observer]:
    """Run the model over its calibration data while each observer watches the input of one module.

    Args:
        model: run in eval mode, without gradients; afterwards it is as it was, see `State`.
        calibration_data: a DataLoader, a list of tensors or any iterable of batches; streamed.
        observers: module name → observer of that module's first input.
        num_samples: how many batches to draw at most. 100 to 200 are usually enough.
        show_progress: a progress bar or not; None shows one on a terminal when more than 50 batches will run.

    Returns:
        The observers, with data in them; empty for None.

    Raises:
        ConfigurationError: when a name in ``observers`` is not a module of the model.
        CalibrationError: when there is no data, a batch does not fit the model, an observed module never ran, or its
            input is not finite.
        PluginError: when an observer raises.
    """
    observers = dict(observers or {})
    feed(
        model,
        iterate_batches(calibration_data),
        observers,
        num_samples=num_samples,
        show_progress=show_progress,
        length=count_batches(calibration_data),
    )
    never_ran(observers)
    return observers


def feed(
    model: nn.Module,
    batches: Iterator[Batch],
    observers: Mapping[str, Observer],
    *,
    num_samples: int,
    show_progress: bool | None,
    length: int | None,
    watch: _Watch | None = None,
    collectors: Iterable[Collector] = (),
) -> tuple[int, Batch]:
    """Draw at most ``num_samples`` batches and run them.

    Args:
        model: as in `run_calibration`, like the other arguments that it names.
        batches: where batches come from.
        observers: by module name.
        num_samples: how many to draw at most.
        show_progress: as there.
        length: how many batches there are, if that is known.
        watch: gives a context manager for each forward pass.
        collectors: what algorithms collect.

    Returns:
        How many batches ran, and a copy of the first of them.

    Raises:
        CalibrationError: when no batch came, none has rows, or one did not fit.
    """
    if num_samples < 1:
        raise ConfigurationError(f"num_samples must be at least 1, got {num_samples}")
    expected = num_samples if length is None else min(length, num_samples)
    show = False if show_progress is None and not _auto_detect_progress_threshold(expected) else show_progress
    prepare_watching()
    limited = islice(batches, num_samples)
    first: Batch | None = None
    count = 0
    has_rows = False
    running = Running()
    with evaluating(model), restoring(model) as state, observing(model, observers, running, collectors):
        # To see each write is costly: it is done for the first batch. Counters that begin later are saved without.
        for buffer in model.buffers():
            if buffer.nbytes <= _SMALL_BUFFER:
                state.originals.save(buffer)
        for batch in with_progress(limited, total=None if length is None else expected, label="calibrating", show=show):
            if first is None:
                first = batch.clone()  # before the model, or a generator that uses one tensor again, writes into it
            with ExitStack() as stack:
                stack.enter_context(_given_back(batch))
                stack.enter_context(running.batch_number(count))
                if watch is not None:
                    stack.enter_context(watch.batch())
                if count == 0:
                    stack.enter_context(Writes(state.originals))
                output = call(model, batch, f"calibration batch {count}")
            del (
                output
            )  # held until the watch ended: a tensor that outlives the pass is one that the model returned or kept
            count += 1
            has_rows = has_rows or _has_rows(batch)
    if first is None:
        raise CalibrationError("the calibration data is empty: give at least one batch that the model can run on")
    if not has_rows:
        which = "calibration batch 0 has" if count == 1 else f"all calibration batches, 0 to {count - 1}, have"
        raise CalibrationError(f"{which} no rows: the first is {describe(first)}; give a batch with at least one")
    return count, first


@contextmanager
def _given_back(batch: Batch) -> Iterator[None]:
    """Afterwards the caller's tensors are as they were, also those that the model wrote into."""
    tensors = [x for x in iter_tensors((batch.args, batch.kwargs)) if is_plain(x)]
    copies, before = [x.clone() for x in tensors], versions(tensors)
    try:
        yield
    finally:
        # A view of normal and of inference tensors can be written into in inference mode only.
        with torch.inference_mode():
            for x, copy, *pair in zip(tensors, copies, before, versions(tensors), strict=True):
                if pair[0] != pair[1] or x.is_inference():  # which has no version
                    x.copy_(copy)


def _has_rows(batch: Batch) -> bool:
    """Whether there is an element in its tensors; a batch without tensors counts as well."""
    sizes = [x.numel() for x in iter_tensors((batch.args, batch.kwargs)) if x.ndim]
    return not sizes or any(sizes)


def never_ran(observers: Mapping[str, Observer]) -> None:
    """Refuse observers that saw nothing.

    Raises:
        CalibrationError: naming their modules.
    """
    unseen = [name for name, observer in observers.items() if observer.range() is None]
    if unseen:
        raise CalibrationError(
            f"no calibration batch reached {', '.join(map(repr, unseen))}: give data that exercises "
            f"{'it' if len(unseen) == 1 else 'them'}, or exclude={unseen!r}"
        )


@contextmanager
def evaluating(*models: nn.Module, compiled: Sequence[nn.Module] = ()) -> Iterator[None]:
    """Eval mode, without gradients; afterwards each module is in the mode in which it was.

    Args:
        models: whose ``eval()`` is called.
        compiled: others, whose ``eval()`` is not: in a module that torch.export made it raises.
    """
    modes = {module: module.training for model in (*models, *compiled) for module in model.modules()}
    try:
        for model in models:
            model.eval()
        for model in compiled:
            for module in model.modules():
                module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def call(model: nn.Module, batch: Batch, what: str) -> Any:  # noqa: ANN401 - whatever the model returns
    """``model(*batch.args, **batch.kwargs)``.

    Raises:
        CalibrationError: when that fails, with the structure of the batch beside the signature of the model.
    """
    try:
        return model(*batch.args, **batch.kwargs)
    except MonoQuantError:
        raise
    except Exception as error:  # the user's model can raise anything
        raise CalibrationError(
            f"{what} failed in {type(model).__name__}.forward{_signature(model)}{_where(model, error)}: called with "
            f"{describe(batch)}: {type(error).__name__}: {error}"
        ) from error


def _where(model: nn.Module, error: Exception) -> str:
    """The innermost layer of the model that was running when the error was raised, as text."""
    names = {id(module): name for name, module in model.named_modules()}
    running = [frame.f_locals.get("self") for frame, _ in walk_tb(error.__traceback__)]
    name = next((names[id(module)] for module in reversed(running) if id(module) in names), "")
    return f", in its layer {name!r}" if name else ""


def _signature(model: nn.Module) -> str:
    try:
        return str(inspect.signature(model.forward))
    except (TypeError, ValueError):  # a forward written in C or replaced by a callable without one
        return "(...)"


def _auto_detect_progress_threshold(num_samples: int) -> bool:
    """Whether a run is long enough for a progress bar."""
    return num_samples > _LONG_RUN
