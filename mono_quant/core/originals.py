"""Seeing each write into some tensors before it happens, so that what was in them can be put back.

A ``TorchDispatchMode`` is shown every operation of torch, also those of scripted functions, with the arguments that its
schema says it writes into. So only what is written is copied. What does not pass through torch's dispatcher in this
thread, as NumPy and other libraries do not, is not seen.
"""

import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mono_quant.core.tensors import is_plain, iter_tensors, same_bits, versions

__all__ = ["Originals", "Writes", "prepare_watching"]

_WRITTEN_UNDECLARED = ("running_mean", "running_var")
"""Arguments that ``aten::native_batch_norm`` writes into although its schema does not say so."""


class Originals:
    """What is in some tensors, to be put back as often as needed.

    A tensor is copied when something is about to write into memory that it shares. Sparse, quantized and other tensors
    that are not plain memory are left out.

    Args:
        tensors: by names for messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = {id(tensor): tensor for tensor in tensors.values() if _has_memory(tensor)}
        self._names = {id(tensor): name for name, tensor in tensors.items()}
        # `tensor.data = other` gives a tensor other memory; these keep the one that it had.
        self._aliases = {key: tensor.detach() for key, tensor in self._tensors.items()}
        self._versions = dict(zip(self._tensors, versions(self._tensors.values()), strict=True))
        self._saved: dict[int, tuple[Tensor, Tensor]] = {}
        self._sharing: dict[int, list[int]] = {}
        for key, tensor in self._tensors.items():
            self._sharing.setdefault(_memory(tensor), []).append(key)

    def save(self, written: Tensor) -> None:
        """Copy those that share bytes with a tensor that is about to be written into, each once."""
        for key in self._sharing.get(_memory(written), ()) if is_plain(written) else ():
            if key not in self._saved and _overlap(self._aliases[key], written):
                flat = _flat(self._aliases[key])
                self._saved[key] = flat, flat.clone()

    def share_memory_with(self, tensor: Tensor) -> bool:
        """Whether putting back may change what is in this tensor."""
        return is_plain(tensor) and _memory(tensor) in self._sharing

    def changed(self) -> list[str]:
        """The names of those that hold other bits, or have other memory, than at first."""
        saved = {key: not same_bits(*pair) for key, pair in self._saved.items()}
        return [self._names[key] for key in self._tensors if saved.get(key) or self._is_elsewhere(key)]

    def restore(self) -> list[str]:
        """Put everything back, bit for bit.

        Returns:
            The names of those that were written into where it was not seen. What was in them is lost.
        """
        # A view of normal and of inference tensors can be written into in inference mode only.
        with torch.inference_mode():
            for flat, saved in reversed(self._saved.values()):
                if not same_bits(flat, saved):
                    flat.copy_(saved)
        lost = []
        seen = {_memory(flat) for flat, _ in self._saved.values()}
        for key, tensor in self._tensors.items():
            alias = self._aliases[key]
            if self._is_elsewhere(key):
                tensor.data = alias
            elif _memory(alias) not in seen and versions([tensor])[0] != self._versions[key]:
                lost.append(self._names[key])
        return lost

    def _is_elsewhere(self, key: int) -> bool:
        tensor, alias = self._tensors[key], self._aliases[key]
        return tensor.data_ptr() != alias.data_ptr() or tensor.shape != alias.shape


class Writes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While this mode is on, what is about to be written is saved first.

    Args:
        originals: where to.
    """

    def __init__(self, *originals: Originals) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._originals = originals

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Save, then do what was asked."""
        del types
        kwargs = kwargs or {}
        for tensor in _written(func, args, kwargs):
            for originals in self._originals:
                originals.save(tensor)
        return func(*args, **kwargs)


def prepare_watching() -> None:
    """Load now what torch loads when `Writes` sees its first operation.

    Its loading leaves a cycle that keeps all frames that called it, and with them the data and the statistics of a
    whole calibration, until the next collection.
    """
    if "torch._dynamo" not in sys.modules:
        importlib.import_module("torch._dynamo")
        gc.collect()


def _written(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """The tensors that a call writes into."""
    for position, name in _written_arguments(func):
        yield from iter_tensors(args[position] if position < len(args) else kwargs.get(name))


@cache
def _written_arguments(func: Any) -> tuple[tuple[int, str], ...]:  # noqa: ANN401 - an operation of torch has no public type
    """Position and name of each."""
    return tuple(
        (position, argument.name)
        for position, argument in enumerate(func._schema.arguments)  # noqa: SLF001 - no public way
        if (argument.alias_info is not None and argument.alias_info.is_write) or argument.name in _WRITTEN_UNDECLARED
    )


def _has_memory(tensor: Tensor) -> bool:
    return is_plain(tensor) and not torch.nn.parameter.is_lazy(tensor) and tensor.numel() > 0


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _overlap(one: Tensor, other: Tensor) -> bool:
    (begin, end), (its_begin, its_end) = _span(one), _span(other)
    return begin < its_end and its_begin < end


def _span(tensor: Tensor) -> tuple[int, int]:
    """Where its bytes begin and end."""
    return tensor.data_ptr(), tensor.data_ptr() + _extent(tensor) * tensor.element_size()


def _flat(tensor: Tensor) -> Tensor:
    """All elements from its first to its last in memory, whatever its strides."""
    return tensor.as_strided((_extent(tensor),), (1,), tensor.storage_offset())


def _extent(tensor: Tensor) -> int:
    """How many elements lie in memory from its first to its last."""
    if not tensor.numel():
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
