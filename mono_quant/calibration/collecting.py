"""Handing the inputs of layers to what algorithms collect of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs
from torch import Tensor, nn

from mono_quant.core.tensors import versions
from mono_quant.errors import PluginError
from mono_quant.plugin_api.algorithm import Statistic

__all__ = ["Collector", "first_input"]


@attrs.frozen(eq=False)
class Collector:
    """The statistics of one algorithm.

    Args:
        algorithm: its name, for messages.
        statistics: module name → what takes in its inputs.
    """

    algorithm: str
    statistics: Mapping[str, Statistic]

    @contextmanager
    def collecting(self, model: nn.Module) -> Iterator[None]:
        """While this lasts each statistic is given the first input of its module, where that is a tensor."""
        modules = dict(model.named_modules(remove_duplicate=False))
        with ExitStack() as stack:
            for name, statistic in self.statistics.items():
                hook = self._hook(name, statistic)
                stack.callback(modules[name].register_forward_pre_hook(hook, with_kwargs=True).remove)
            yield

    def _hook(self, name: str, statistic: Statistic) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = first_input(args, kwargs)
            if not isinstance(x, Tensor):
                return
            before = versions([x])
            try:
                statistic(x)
            except Exception as error:  # somebody else's code can raise anything
                raise PluginError(
                    f"what algorithm {self.algorithm!r} collects of layer {name or '(model)'!r} raised "
                    f"{type(error).__name__}: {error}"
                ) from error
            if versions([x]) != before:
                raise PluginError(f"algorithm {self.algorithm!r} wrote into the input of layer {name or '(model)'!r}")

        return hook


def first_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever the module is given
    """The first argument of a call, by place or by name; None when there is none."""
    return args[0] if args else next(iter(kwargs.values()), None)
