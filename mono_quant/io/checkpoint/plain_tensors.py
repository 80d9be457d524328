"""Tensors by name, as a ``state_dict`` has them: which can be read, and which are one."""

from collections.abc import Mapping

from torch import Tensor
from torch.nn.parameter import is_lazy

from mono_quant.core.tensors import is_plain
from mono_quant.errors import ArtifactError

__all__ = ["find_ties", "plain_tensors"]


def plain_tensors(values: Mapping[str, object], source: str) -> dict[str, Tensor]:
    """The same tensors without gradients.

    Raises:
        ArtifactError: naming the first that is no tensor, or not a dense plain one with data.
    """
    return {name: _plain(name, value, source) for name, value in values.items()}


def find_ties(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Further name → first name, for names that share one tensor; views of a part of its memory are no ties."""
    first: dict[object, str] = {}
    ties = {}
    for name, tensor in tensors.items():
        memory = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        meaning = (tensor.dtype, tensor.is_neg(), tensor.is_conj())
        kept = first.setdefault((*memory, *meaning) if tensor.numel() else name, name)
        if kept != name:
            ties[name] = kept
    return ties


def _plain(name: object, value: object, source: str) -> Tensor:
    if not isinstance(name, str):
        raise ArtifactError(f"{source}: the key {name!r} is not the name of a tensor")
    if not isinstance(value, Tensor):
        raise ArtifactError(f"{source}: {name!r} is a {type(value).__name__}, not a tensor: take it out")
    if is_lazy(value) or value.is_meta:
        raise ArtifactError(f"{source}: tensor {name!r} has no data")
    if not is_plain(value):
        raise ArtifactError(
            f"{source}: tensor {name!r} is a {type(value).__name__}, {value.layout}, {value.dtype}: "
            "only dense plain tensors can be read"
        )
    return value.detach().as_subclass(Tensor)
