"""Float layers that share a weight become quantized layers that share its codes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mono_quant.modules.base import QuantizedModule

__all__ = ["share_tied"]


def share_tied(floats: Mapping[str, nn.Module], quantized: Mapping[str, nn.Module]) -> None:
    """Where two float layers share a parameter and their codes came out equal, let them share the tensors too.

    Args:
        floats: float layers by name, as they were converted.
        quantized: what they became, by the same names.
    """
    first: dict[int, QuantizedModule] = {}
    for name, layer in quantized.items():
        if not isinstance(layer, QuantizedModule):
            continue
        for parameter in floats[name].parameters(recurse=False):
            other = first.setdefault(id(parameter), layer)
            if other is not layer:
                _share(other, layer)


def _share(kept: QuantizedModule, layer: QuantizedModule) -> None:
    theirs: dict[str, Tensor] = dict(kept.named_buffers())
    for name, tensor in list(layer.named_buffers()):
        other = theirs.get(name)
        if other is not None and other.dtype == tensor.dtype and torch.equal(other, tensor):
            setattr(layer, name, other)
