"""The output of a quantized layer as the rest of the model sees it: a float32 tensor that is computed when it is used.

What uses it decides what is computed. A quantized layer takes codes, an activation is applied by the kernel in the same
step, sums stay in the kernels' layout; every other operation gets the plain tensor that the layer would have given.
So integers stay integers between layers in any model that runs in eager mode, without tracing, and the result is
that of the layers one by one, but for the rounding of the numbers between them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from mono_quant.core.dataflow import METADATA
from mono_quant.core.tensors import CHANNELS_LAST, map_tensors
from mono_quant.modules.base import is_traced
from mono_quant.modules.deferred_operations import IN_PLACE, OPERATIONS
from mono_quant.modules.layer_output import Output, Values

__all__ = ["Deferred", "is_ordinary", "plain", "settled", "shape_of"]

_LOOKS = METADATA - {Tensor.data_ptr, Tensor.__repr__}
"""Functions that it answers itself while it is not computed: what it looks like is known before."""


class Deferred(Tensor):
    """A float32 tensor on the CPU without memory of its own, until an operation needs it.

    Its attributes begin with an underscore, for code that looks at what a value has.

    Args:
        output: what it stands for.
        is_channels_last: whether its plain tensor is laid out so, as that of the float layer would have been.
    """

    _output: Output
    _is_channels_last: bool
    _plain: Tensor | None

    def __new__(cls, output: Output, *, is_channels_last: bool = False) -> Self:
        """A wrapper of the output's shape."""
        strides = None
        if is_channels_last:
            strides = torch.empty(output.shape, device="meta", memory_format=CHANNELS_LAST[len(output.shape)]).stride()
        tensor: Self = Tensor._make_wrapper_subclass(cls, output.shape, strides=strides, dtype=torch.float32)
        tensor._output = output
        tensor._is_channels_last = is_channels_last
        tensor._plain = None
        return tensor

    def _codes(self, scale: float, zero_point: int) -> Tensor:
        """Its uint8 codes, in whatever layout."""
        self._output.note("codes")
        return self._output.codes(scale, zero_point)

    def _example(self) -> Tensor:
        """Its values, to look at: it stays as deferred as it was, and nobody is told."""
        return self._output.values().contiguous()

    def _compute(self) -> Tensor:
        """The plain tensor, the same at each call. It can be written into, so it shares memory with nothing else."""
        if self._plain is None:
            self._output.note("plain")
            values = self._output.values()
            layout = CHANNELS_LAST[values.ndim] if self._is_channels_last else torch.contiguous_format
            made = values.contiguous(memory_format=layout)
            with torch._C.DisableTorchFunctionSubclass():
                was_made_elsewhere = made.is_inference() and not self.is_inference()
            if was_made_elsewhere:  # what is only looked at in inference mode can be written into afterwards
                with torch.inference_mode(mode=False):
                    made = made.clone()
            elif made is values and self._output.is_shared:
                made = made.clone()
            self._plain = vars(self).setdefault("_made", made)  # of two threads, the first
            self._output = Values(self._plain)
        return self._plain

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        kwargs = kwargs or {}
        if func in _LOOKS:
            seen = [settled(one) for one in args]
            with torch._C.DisableTorchFunctionSubclass():
                return func(*seen, **kwargs)
        is_alone = all(kind is cls or kind is nn.Parameter for kind in types)
        if is_alone and (result := _known(func, args, kwargs)) is not None:
            return result
        args, kwargs = map_tensors(plain, tuple(args)), map_tensors(plain, dict(kwargs))
        if not is_alone:
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunctionSubclass():  # one in a container of the user's is met in C++
            return func(*args, **kwargs)

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


def plain(tensor: Tensor) -> Tensor:
    """The tensor itself, or the plain one that a deferred one stands for."""
    return tensor._compute() if isinstance(tensor, Deferred) else tensor


def settled(tensor: Tensor) -> Tensor:
    """The plain tensor where there is one already; it may have another shape by now."""
    return tensor._plain if isinstance(tensor, Deferred) and tensor._plain is not None else tensor


def shape_of(tensor: Tensor) -> torch.Size:
    """The shape of a `settled` tensor, in less time than torch takes to ask a deferred one."""
    return tensor._output.shape if isinstance(tensor, Deferred) else tensor.shape


def is_ordinary(tensor: Tensor) -> bool:
    """Whether it is a deferred tensor, or a plain one on the CPU of no class of the user's."""
    return type(tensor) is Deferred or (type(tensor) in {Tensor, nn.Parameter} and tensor.device.type == "cpu")


def _known(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The result of a function that is known for outputs; None where it needs the plain tensor after all."""
    operation = IN_PLACE.get(func) or OPERATIONS.get(func)
    if operation is None or "out" in kwargs or is_traced():
        return None
    is_in_place = func in IN_PLACE
    if "inplace" in kwargs:
        kwargs = dict(kwargs)
        is_in_place = kwargs.pop("inplace") or is_in_place
    first = args[0] if args and isinstance(args[0], Deferred) else None
    if first is None and not is_in_place:
        first = next((one for one in args if isinstance(one, Deferred)), None)
    arguments = None if first is None else _outputs(args, is_channels_last=first._is_channels_last)
    output = None if arguments is None else operation(*arguments, **kwargs)
    if first is None or output is None:
        return None
    if output is first._output:  # a function that gives its argument back
        return first
    if is_in_place:
        return _overwrite(first, output)
    return _laid_out(output, is_channels_last=first._is_channels_last)


def _outputs(args: Sequence[Any], *, is_channels_last: bool) -> list[Any] | None:
    """The arguments with outputs in place of deferred tensors; None where one cannot be taken."""
    outputs = []
    for one in args:
        if isinstance(one, Tensor) and not _can_be_taken(one, is_channels_last=is_channels_last):
            return None
        outputs.append(one._output if isinstance(one, Deferred) else one)
    return outputs


def _can_be_taken(tensor: Tensor, *, is_channels_last: bool) -> bool:
    """Whether a tensor has no view, no gradient and no layout of its own that the result would have to follow."""
    if isinstance(tensor, Deferred):
        return tensor._plain is None and tensor._is_channels_last == is_channels_last
    layout = CHANNELS_LAST.get(tensor.ndim, torch.contiguous_format) if is_channels_last else torch.contiguous_format
    return not tensor.requires_grad and tensor.is_contiguous(memory_format=layout)


def _overwrite(tensor: Deferred, output: Output) -> Deferred | None:
    """The same tensor with other values; None where they do not fit, for torch to refuse."""
    if output.shape != tensor._output.shape:
        return None
    tensor._output = output
    return tensor


def _laid_out(output: Output, *, is_channels_last: bool) -> Tensor:
    """A new tensor of these values; a plain one where they are laid out so already, and nobody else holds them."""
    is_channels_last = is_channels_last and len(output.shape) in CHANNELS_LAST
    if isinstance(output, Values) and not is_channels_last and output.values().is_contiguous():
        return output.values()
    return Deferred(output, is_channels_last=is_channels_last)
