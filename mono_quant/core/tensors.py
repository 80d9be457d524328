"""The tensors inside nested Python values."""

from collections.abc import Iterator, Mapping

from torch import Tensor

__all__ = ["iter_tensors"]


def iter_tensors(value: object) -> Iterator[Tensor]:
    """The tensors in nested mappings, lists, tuples and sets, in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from iter_tensors(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from iter_tensors(inner)
