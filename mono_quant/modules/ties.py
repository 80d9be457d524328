"""Float layers that share a weight become quantized layers that share its codes."""

from collections.abc import Mapping

from torch import Tensor, nn

from mono_quant.core.tensors import same_bits
from mono_quant.modules.base import QuantizedModule

__all__ = ["share_tied"]


def share_tied(floats: Mapping[str, nn.Module], quantized: Mapping[str, nn.Module]) -> None:
    """Where two float layers share a parameter, let them share what became of it, where that came out equal.

    Args:
        floats: float layers by name, as they were converted.
        quantized: what they became, by the same names.
    """
    first: dict[int, tuple[QuantizedModule, str]] = {}
    for name, layer in quantized.items():
        if not isinstance(layer, QuantizedModule):
            continue
        for role, parameter in floats[name].named_parameters(recurse=False):
            other, its_role = first.setdefault(id(parameter), (layer, role))
            if other is not layer:
                _share(_became(other, its_role), layer, role)


def _share(others: Mapping[str, Tensor], layer: QuantizedModule, role: str) -> None:
    """All of a parameter's tensors or none: the same codes with another scale are another weight."""
    ours = _became(layer, role)
    if ours.keys() == others.keys() and all(same_bits(ours[suffix], others[suffix]) for suffix in ours):
        for suffix, tensor in others.items():
            if isinstance(tensor, nn.Parameter):
                layer._parameters[role + suffix] = tensor
            else:
                layer._buffers[role + suffix] = tensor


def _became(layer: QuantizedModule, role: str) -> dict[str, Tensor]:
    """The tensors that a parameter of the float layer has become, by suffix."""
    if role in layer.weight_specs:
        return layer.stored(role)
    tensor = layer._parameters.get(role)
    return {} if tensor is None else {"": tensor}
