"""A quantized model that a runtime runs, and how it was chosen."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn

from mono_quant.runtimes.comparison import RuntimeTiming

__all__ = ["CompiledModel"]


class CompiledModel(nn.Module):
    """Called as the quantized model is, it gives what that gives, without gradients.

    Args:
        model: what the runtime made of it.
        runtime: its name.
        details: what the runtime says of it, as the precision of floats.
        timings: what was measured to choose it; empty where it was named.
    """

    def __init__(
        self, model: nn.Module, *, runtime: str, details: str = "", timings: Sequence[RuntimeTiming] = ()
    ) -> None:
        super().__init__()
        self.model = model
        self.runtime = runtime
        self.details = details
        self.timings = tuple(timings)
        self.training = False  # of this module alone: those inside may be the user's, or know no modes

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the model is called
        """As the model."""
        with torch.no_grad():
            return self.model(*args, **kwargs)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - as torch declares it
        """Nothing: it is for inference only, and what a runtime made need not know of modes."""
        del mode
        return self

    def extra_repr(self) -> str:
        """Who runs it."""
        return f"runtime={self.runtime!r}" + (f", {self.details}" if self.details else "")
