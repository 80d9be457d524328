"""An independent slow reference: the layers run, over all data, in float64 and exactly."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mono_quant.modules import KernelModule


def mean_error(layer: nn.Module, quantized: nn.Module, inputs: Iterable[Tensor]) -> Tensor:
    """Float output less quantized output, the mean for each output channel, float64 ``(out,)``."""
    axis = -1 if isinstance(layer, nn.Linear) else -layer.weight.ndim + 1
    errors = [(run(layer, x) - run(quantized, x)).movedim(axis, -1).flatten(0, -2) for x in inputs]
    return torch.cat(errors).mean(dim=0)


def run(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        if isinstance(layer, KernelModule):  # which sums integers exactly, and adds the bias in float32
            return layer(x).double()
        return layer.double()(x.double())
