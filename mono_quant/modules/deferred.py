"""The output of a quantized layer as the rest of the model sees it: a float32 tensor that is computed when it is used.

What uses it decides what is computed. A quantized layer takes codes, an activation is applied by the kernel in the same
step, sums stay in the kernels' layout; every other operation gets the plain tensor that the layer would have given.
So integers stay integers between layers in any model that runs in eager mode, without tracing, and the result is
that of the layers one by one, but for the rounding of the numbers between them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from mono_quant.core.dataflow import METADATA
from mono_quant.core.tensors import map_tensors
from mono_quant.modules.deferred_operations import IN_PLACE, OPERATIONS
from mono_quant.modules.layer_output import Output, Values

__all__ = ["Deferred", "plain", "shape_of"]

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_LOOKS = METADATA - {Tensor.data_ptr, Tensor.__repr__}
"""Functions that it answers itself: what it looks like is known before it is computed."""


class Deferred(Tensor):
    """A float32 tensor without memory of its own, until an operation needs it.

    Args:
        output: what it stands for.
        is_channels_last: whether its plain tensor is laid out so, as that of the float layer would have been.
    """

    output: Output
    is_channels_last: bool
    _plain: Tensor | None

    def __new__(cls, output: Output, *, is_channels_last: bool = False) -> Self:
        """A wrapper of the output's shape, on the CPU."""
        strides = None
        if is_channels_last:
            strides = torch.empty(output.shape, device="meta", memory_format=_CHANNELS_LAST[len(output.shape)]).stride()
        tensor: Self = Tensor._make_wrapper_subclass(cls, output.shape, strides=strides, dtype=torch.float32)
        tensor.output = output
        tensor.is_channels_last = is_channels_last
        tensor._plain = None
        return tensor

    def codes(self, scale: float, zero_point: int) -> Tensor:
        """Its uint8 codes, in whatever layout."""
        self.output.note("codes")
        return self.output.codes(scale, zero_point)

    def example(self) -> Tensor:
        """Its values, to look at: it stays as deferred as it was, and nobody is told."""
        return self.output.values().contiguous()

    def plain(self) -> Tensor:
        """The plain tensor, the same at each call."""
        if self._plain is None:
            self.output.note("plain")
            values = self.output.values()
            layout = _CHANNELS_LAST[values.ndim] if self.is_channels_last else torch.contiguous_format
            plain = values.contiguous(memory_format=layout)
            # It can be written into from now on, and what else is made of these values must not see that.
            self._plain = plain.clone() if plain is values and self.output.is_shared else plain
            self.output = Values(self._plain)
        return self._plain

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        del types
        kwargs = kwargs or {}
        if func in _LOOKS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        result = _known(func, args, kwargs)
        if result is not None:
            return result
        return func(*map_tensors(plain, tuple(args)), **map_tensors(plain, dict(kwargs)))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch calls it without kwargs too
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        """What comes here comes from C++, which knows nothing of the above."""
        del types
        return func(*map_tensors(plain, args), **map_tensors(plain, kwargs or {}))


def shape_of(tensor: Tensor) -> torch.Size:
    """The tensor's shape, in less time than torch takes to ask a deferred one."""
    return tensor.output.shape if isinstance(tensor, Deferred) else tensor.shape


def plain(tensor: Tensor) -> Tensor:
    """The tensor itself, or the plain one that a deferred one stands for."""
    return tensor.plain() if type(tensor) is Deferred else tensor


def _known(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The result of a function that is known for outputs; None where it needs the plain tensor after all."""
    operation = IN_PLACE.get(func) or OPERATIONS.get(func)
    deferred = [tensor for tensor in args if type(tensor) is Deferred]
    is_in_place = func in IN_PLACE or bool(kwargs.get("inplace"))
    # What has a plain tensor may have views, which see what is written into it.
    has_plain = any(tensor._plain is not None for tensor in deferred)
    if operation is None or not deferred or has_plain or (is_in_place and deferred[0] is not args[0]):
        return None
    outputs = [tensor.output if type(tensor) is Deferred else tensor for tensor in args]
    output = operation(*outputs, **{name: value for name, value in kwargs.items() if name != "inplace"})
    if output is None:
        return None
    return _written(deferred[0], output) if is_in_place else _new(deferred[0], output)


def _written(tensor: Deferred, output: Output) -> Deferred | None:
    """The same tensor with other values; None where they do not fit, for torch to refuse."""
    if output.shape != tensor.output.shape:
        return None
    tensor.output = output
    return tensor


def _new(like: Deferred, output: Output) -> Tensor:
    """A tensor of these values, laid out as another one is; a plain one where they are so already."""
    is_channels_last = like.is_channels_last and len(output.shape) in _CHANNELS_LAST
    if isinstance(output, Values) and not is_channels_last and output.values().is_contiguous():
        return output.values()
    return Deferred(output, is_channels_last=is_channels_last)
