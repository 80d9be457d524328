"""What the inputs of some layers look like when the float model runs on a batch."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import attrs
import numpy as np
import torch
from mono_quant.plugin_api import Batch
from torch import Tensor, nn
from torch.overrides import BaseTorchFunctionMode

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


def watch_inputs(
    run: Callable[[nn.Module, Batch], object], model: nn.Module, batch: Batch, names: Iterable[str]
) -> dict[str, SeenInput]:
    """Run the float model once, as ``ValidationContext.run`` does, and watch the first input of some layers.

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
    with ExitStack() as stack:
        for name in names:
            if name in modules:
                handle = modules[name].register_forward_pre_hook(hook_of(name), with_kwargs=True)
                stack.callback(handle.remove)
        # In any such mode torch leaves the fast paths of transformers, which call no layers.
        stack.enter_context(BaseTorchFunctionMode())
        run(model, batch)
    return seen
