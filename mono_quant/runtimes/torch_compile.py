"""The model by ``torch.compile``."""

import warnings
from typing import cast

import torch
from torch import nn

from mono_quant.plugin_api.runtime import Runtime
from mono_quant.plugin_api.source import Batch

__all__ = ["TorchCompileRuntime"]


class TorchCompileRuntime(Runtime):
    """``torch.compile`` by Inductor: quantized layers run on kernels, what lies between them is fused.

    It compiles at the first call, which can take a minute, and again for what it is called with that is new. It needs a
    C++ compiler.

    Args:
        mode: of ``torch.compile``: ``"default"``, ``"max-autotune"``.
        dynamic: whether sizes of axes are left open from the beginning; None where they turn out to change.
    """

    is_slow_to_compile = True

    def __init__(self, *, mode: str = "default", dynamic: bool | None = None) -> None:
        self.mode = mode
        self.dynamic = dynamic

    def compile(self, model: nn.Module, example: Batch) -> nn.Module:
        """Compiled at its first call."""
        del example
        with warnings.catch_warnings():  # of torch, about its own code that it imports here
            warnings.simplefilter("ignore", DeprecationWarning)
            return cast("nn.Module", torch.compile(model, mode=self.mode, dynamic=self.dynamic))
