"""What no format can hold, so that it is refused before anything is written."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from mono_quant.core.tensors import is_plain
from mono_quant.io.limits import MOST_DIMENSIONS, MOST_TENSORS

__all__ = ["why_not_stored"]


def why_not_stored(tensors: Mapping[str, Tensor]) -> list[str]:
    """The reasons why these tensors could not be read again; empty when they could."""
    too_many = [f"{len(tensors):,} tensors are more than the {MOST_TENSORS:,} of one file"]
    return [*(too_many if len(tensors) > MOST_TENSORS else ()), *_each(tensors)]


def _each(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not _is_unicode(name):
            yield f"a tensor is named {name!r}, which is no text that can be written"
        elif not is_plain(tensor):
            kind = f"a {type(tensor).__name__}, {tensor.layout}, {tensor.dtype} on {tensor.device}"
            yield f"tensor {name!r} is {kind}: only plain dense tensors can be stored"
        elif tensor.ndim > MOST_DIMENSIONS:
            yield f"tensor {name!r} has {tensor.ndim} dimensions, more than {MOST_DIMENSIONS}"


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
