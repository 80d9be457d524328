"""What no format can hold, so that it is refused before anything is written."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mono_quant.io.limits import MOST_DIMENSIONS, MOST_TENSORS

__all__ = ["is_plain", "why_not_stored"]


def why_not_stored(tensors: Mapping[str, Tensor]) -> list[str]:
    """The reasons why these tensors could not be read again; empty when they could."""
    too_many = [f"{len(tensors):,} tensors are more than the {MOST_TENSORS:,} of one file"]
    return [*(too_many if len(tensors) > MOST_TENSORS else ()), *_each(tensors)]


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's elements are those in its memory, at its strides."""
    is_dense = tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_quantized or tensor.is_nested)
    return is_dense and type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__


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
