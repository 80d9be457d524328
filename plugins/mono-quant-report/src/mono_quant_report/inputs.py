"""What the inputs of some layers look like when the float model runs on a batch."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs
import numpy as np
import torch
from mono_quant.plugin_api import Batch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["SeenInput", "watch_inputs"]

_SAMPLE = 2**16


@attrs.define(eq=False)
class SeenInput:
    """The values that passed the input of a layer.

    Args:
        low: the smallest.
        high: the largest.
        count: how many there were.
        sample: at most 65,536 of each call, at even distances, float64; of the first 8 calls.
    """

    low: float
    high: float
    count: int
    sample: list["np.ndarray[Any, Any]"]

    def add(self, x: Tensor) -> None:
        """Take in one input."""
        values = x.detach().flatten().float()
        low, high = torch.aminmax(values)
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        self.count += values.numel()
        if len(self.sample) < 8:  # noqa: PLR2004 - see above
            step = -(-values.numel() // _SAMPLE)
            self.sample.append(values[::step].double().cpu().numpy())


class _NoFastPath(TorchFunctionMode):
    """In any such mode torch leaves the fast paths of transformers, which call no layers."""

    def __torch_function__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        return function(*args, **(kwargs or {}))


def watch_inputs(model: nn.Module, batch: Batch, names: Iterable[str]) -> dict[str, SeenInput]:
    """Run the float model once on a copy of the batch, and watch the first input of some layers.

    It runs in eval mode, without gradients, and leaves random numbers and the modes of modules as they were.

    Returns:
        By name; without those that were not called, or not with a float tensor.

    Raises:
        Exception: whatever the model raises.
    """
    seen: dict[str, SeenInput] = {}

    def hook_of(name: str) -> Any:  # noqa: ANN401 - torch's type of hooks
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(x, Tensor) and x.is_floating_point() and not x.is_nested and x.numel():
                seen.setdefault(name, SeenInput(float("inf"), float("-inf"), 0, [])).add(x)

        return hook

    modules = dict(model.named_modules(remove_duplicate=False))
    copy = batch.clone()
    with ExitStack() as stack:
        for name in names:
            if name in modules:
                handle = modules[name].register_forward_pre_hook(hook_of(name), with_kwargs=True)
                stack.callback(handle.remove)
        stack.enter_context(_quietly(model))
        model(*copy.args, **copy.kwargs)
    return seen


@contextmanager
def _quietly(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _NoFastPath():
            torch.manual_seed(0)
            model.eval()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
