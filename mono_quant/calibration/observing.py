"""Handing the inputs of layers to their observers, and refusing those that are not finite."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mono_quant.calibration.collecting import Collector, first_input
from mono_quant.calibration.data import describe
from mono_quant.core.tensors import versions
from mono_quant.errors import CalibrationError, ConfigurationError, PluginError
from mono_quant.modules import SmoothedLinear, without_fast_paths
from mono_quant.plugin_api.observer import Observer

__all__ = ["Running", "observing"]


class Running:
    """Which batch is running, and the ranges that show what in it is not finite: layer and ends, in their order.

    They are looked at once a batch, together: to read numbers at each layer would take half as long as to find them.
    """

    def __init__(self) -> None:
        self.batch = 0
        self.shown: list[tuple[str, tuple[Tensor, Tensor]]] = []

    @contextmanager
    def batch_number(self, number: int) -> Iterator[None]:
        """Around one forward pass.

        Raises:
            CalibrationError: when an input was not finite; also in place of what the model raised on such numbers.
        """
        self.batch = number
        self.shown.clear()
        try:
            yield
        except Exception:
            self._look_at_ends()
            raise
        self._look_at_ends()

    def _look_at_ends(self) -> None:
        numbers = [end.flatten() for _, ends in self.shown for end in ends]
        if numbers and not bool(torch.cat(numbers).isfinite().all()):
            for name, ends in self.shown:
                _refuse_non_finite(ends, name, self.batch)


@contextmanager
def observing(
    model: nn.Module, observers: Mapping[str, Observer], running: Running, collectors: Iterable[Collector]
) -> Iterator[None]:
    """Each observer sees its module's first input while this lasts, and so do the collectors."""
    modules = dict(model.named_modules(remove_duplicate=False))
    unknown = sorted(set(observers) - set(modules))
    if unknown:
        raise ConfigurationError(
            f"observers are given for {unknown}, which the model has not; it has {sorted(modules)}"
        )
    with ExitStack() as stack:
        stack.enter_context(without_fast_paths(model))
        for name, observer in observers.items():
            handle = modules[name].register_forward_pre_hook(_hook(name, observer, running), with_kwargs=True)
            stack.callback(handle.remove)
        for collector in collectors:
            stack.enter_context(collector.collecting(model))
        yield


def _hook(name: str, observer: Observer, running: Running) -> Any:  # noqa: ANN401 - torch's hook type
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = first_input(args, kwargs)
        if not isinstance(x, Tensor):
            message = (
                f"layer {name or '(model)'!r} got {describe(x)} as its input in batch {running.batch}, not a tensor"
            )
            raise CalibrationError(message)
        if not observer.shows_non_finite and x.numel():
            _refuse_non_finite(torch.aminmax(x.detach()), name, running.batch)
        before = versions([x])
        try:
            observer.forward(module.quantized_input(x) if isinstance(module, SmoothedLinear) else x)
        except Exception as error:  # an observer of somebody else's can raise anything
            raise PluginError(
                f"calibration batch {running.batch}: observer {type(observer).__name__} of layer "
                f"{name or '(model)'!r} raised {type(error).__name__}: {error}"
            ) from error
        if versions([x]) != before:
            raise PluginError(f"observer {type(observer).__name__} of layer {name!r} wrote into the layer's input")
        if observer.shows_non_finite and (ends := observer.range()) is not None:
            running.shown.append((name, ends))

    return hook


def _refuse_non_finite(ends: tuple[Tensor, Tensor], name: str, batch: int) -> None:
    low, high = float(ends[0].min()), float(ends[1].max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise CalibrationError(
            f"the input of layer {name or '(model)'!r} is not finite in calibration batch {batch} "
            f"(it spans {low} to {high}): check the model and the data before quantizing"
        )
