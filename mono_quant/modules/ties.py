"""Float layers that share a weight become quantized layers that share its codes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mono_quant.modules.base import QuantizedModule

__all__ = ["share_tied"]

_BECAME = {"weight": ("weight", "weight_scale"), "bias": ("bias",)}
"""Parameter of the float layer → tensors of the quantized one that follow from it alone."""


def share_tied(floats: Mapping[str, nn.Module], quantized: Mapping[str, nn.Module]) -> None:
    """Where two float layers share a parameter, let them share what became of it, where that came out equal.

    Args:
        floats: float layers by name, as they were converted.
        quantized: what they became, by the same names.
    """
    first: dict[int, QuantizedModule] = {}
    for name, layer in quantized.items():
        if not isinstance(layer, QuantizedModule):
            continue
        for role, parameter in floats[name].named_parameters(recurse=False):
            other = first.setdefault(id(parameter), layer)
            if other is not layer:
                _share(other, layer, _BECAME.get(role, ()))


def _share(kept: QuantizedModule, layer: QuantizedModule, names: tuple[str, ...]) -> None:
    for name in names:
        ours: Tensor | None = getattr(layer, name)
        theirs: Tensor | None = getattr(kept, name)
        if ours is not None and theirs is not None and ours.dtype == theirs.dtype and torch.equal(ours, theirs):
            setattr(layer, name, theirs)
