"""The tensors inside nested Python values."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["CHANNELS_LAST", "is_plain", "iter_tensors", "map_tensors", "same_bits", "versions"]

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Number of axes → the layout in which the channels of one place lie side by side."""
_SCALARS = (bool, int, float, str, type(None), torch.dtype, torch.device)
_SEQUENCES = (list, tuple, set, frozenset)


def iter_tensors(value: object) -> Iterator[Tensor]:
    """The tensors in nested mappings, lists, tuples, sets and dataclasses, in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, _SCALARS):
        return
    elif isinstance(value, _SEQUENCES):
        for inner in value:
            yield from iter_tensors(inner)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from iter_tensors(inner)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from iter_tensors(getattr(value, field.name, None))


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:  # noqa: ANN401 - a value of the type of `value`
    """The same nested dictionaries, lists and tuples with other tensors in them; other containers are left as they are.

    >>> map_tensors(torch.neg, {"x": [torch.tensor(1), "kept"]})
    {'x': [tensor(-1), 'kept']}
    """
    if isinstance(value, Tensor):
        return function(value)
    if type(value) is dict:
        return {key: map_tensors(function, inner) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map_tensors(function, inner) for inner in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(function, inner) for inner in value))
    return value


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's elements are those in its memory, at its strides."""
    is_dense = tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_quantized or tensor.is_nested)
    return is_dense and type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__


def same_bits(x: Tensor, y: Tensor) -> bool:
    """Equal in dtype, shape and every bit: NaN equals itself, and 0.0 is not -0.0."""
    return x.dtype == y.dtype and x.shape == y.shape and torch.equal(_bits(x), _bits(y))


def versions(tensors: Iterable[Tensor | None]) -> tuple[int, ...]:
    """Numbers that change when a tensor is written into; those made in inference mode have none and count as 0.

    A write through ``.data`` does not change them.
    """
    # A list first: it takes half the time of a generator, and this is asked at each call of a layer.
    return tuple([0 if t is None or t.is_inference() else t._version for t in tensors])  # noqa: SLF001 - no public way


def _bits(x: Tensor) -> Tensor:
    return x.detach().resolve_conj().resolve_neg().contiguous().flatten().view(torch.uint8)
