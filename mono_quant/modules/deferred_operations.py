"""The operations on outputs of quantized layers that do not need the plain tensor."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.core.pooling import max_pool2d
from mono_quant.modules.layer_output import Mapped, Output, Values
from mono_quant.plugin_api.activation import Activation

__all__ = ["IN_PLACE", "OPERATIONS"]

Operation = Callable[..., Output | None]
"""Takes the arguments of a torch function with outputs in place of tensors, without ``inplace``; gives the output, or
None where the plain tensor is needed."""


def _in_any_layout(function: Callable[..., Tensor]) -> Operation:
    """A function that gives the same numbers in any layout."""

    def operation(*args: Any, **kwargs: Any) -> Output | None:  # noqa: ANN401 - of any function
        values = function(*(_values(one) for one in args), **{name: _values(one) for name, one in kwargs.items()})
        return Values(values) if values.dtype is torch.float32 else None

    return operation


def _values(argument: Any) -> Any:  # noqa: ANN401 - of any function
    if isinstance(argument, Output):
        argument.note("layout")
        return argument.values()
    return argument


def _activation(name: str, function: Callable[..., Tensor]) -> Operation:
    """An activation without arguments, applied by the kernel where it can."""
    activation, eagerly = Activation(name), _in_any_layout(function)
    return lambda output: output.activated(activation) or eagerly(output)


def _hardtanh(output: Output, min_val: float = -1.0, max_val: float = 1.0) -> Output | None:
    if not min_val <= max_val:
        return None  # for torch to refuse
    fused = output.activated(_hardtanh_of(float(min_val), float(max_val)))
    return fused or _in_any_layout(functional.hardtanh)(output, min_val, max_val)


@lru_cache(maxsize=64)
def _hardtanh_of(low: float, high: float) -> Activation:
    return Activation("hardtanh", (low, high))


def _gelu(output: Output, *, approximate: str = "none") -> Output | None:
    name = {"none": "gelu", "tanh": "gelu-tanh"}.get(approximate)
    if name is None:
        return None
    return output.activated(Activation(name)) or _in_any_layout(functional.gelu)(output, approximate=approximate)


def _max_pool2d(  # noqa: PLR0917 - the signature of torch's
    output: Output,
    kernel_size: Any,  # noqa: ANN401 - a number or a pair
    stride: Any = None,  # noqa: ANN401
    padding: Any = 0,  # noqa: ANN401
    dilation: Any = 1,  # noqa: ANN401
    ceil_mode: bool = False,  # noqa: FBT001, FBT002 - torch's own
    return_indices: bool = False,  # noqa: FBT001, FBT002 - torch's own
) -> Output | None:
    if ceil_mode or return_indices or len(output.shape) != 4:  # noqa: PLR2004 - (N, C, H, W)
        return None
    if stride is None or stride == []:
        stride = kernel_size
    kernel, steps, pads, gaps = (_pair(one) for one in (kernel_size, stride, padding, dilation))
    if min(*kernel, *steps, *gaps) < 1 or not all(0 <= 2 * p <= k for p, k in zip(pads, kernel, strict=True)):
        return None  # for torch to refuse
    size = [
        (axis + 2 * pad - gap * (window - 1) - 1) // step + 1
        for axis, window, step, pad, gap in zip(output.shape[2:], kernel, steps, pads, gaps, strict=True)
    ]
    if min(size) < 1:
        return None  # for torch to refuse
    pooled = torch.Size((*output.shape[:2], *size))
    pool = partial(max_pool2d, kernel=kernel, stride=steps, padding=pads, dilation=gaps)
    return Mapped(output, pool, pooled)


def _pair(value: Any) -> tuple[int, int]:  # noqa: ANN401 - as torch takes it
    """Of height and width."""
    if isinstance(value, Sequence):
        return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])
    return value, value


def _dropout(output: Output, p: float = 0.5, training: bool = True) -> Output | None:  # noqa: FBT001, FBT002 - torch's own
    del p
    return None if training else output


OPERATIONS: dict[Callable[..., Any], Operation] = {
    functional.relu: _activation("relu", functional.relu),
    torch.relu: _activation("relu", functional.relu),
    Tensor.relu: _activation("relu", functional.relu),
    functional.silu: _activation("silu", functional.silu),
    functional.hardswish: _activation("hardswish", functional.hardswish),
    functional.hardtanh: _hardtanh,
    functional.relu6: lambda output: _hardtanh(output, 0.0, 6.0),
    functional.gelu: _gelu,
    functional.max_pool2d: _max_pool2d,
    torch.max_pool2d: _max_pool2d,
    functional.dropout: _dropout,
    **{
        function: _in_any_layout(function)
        for function in (
            torch.add, torch.sub, torch.mul, torch.div, torch.sigmoid, torch.tanh,
            Tensor.add, Tensor.sub, Tensor.mul, Tensor.div, Tensor.sigmoid, Tensor.tanh, Tensor.neg,
            functional.hardsigmoid, functional.leaky_relu, functional.elu,
            functional.avg_pool2d, functional.adaptive_avg_pool2d,
        )
    },
}  # fmt: skip
"""Torch function → operation."""

IN_PLACE: dict[Callable[..., Any], Operation] = {
    getattr(owner, name + "_"): OPERATIONS[getattr(owner, name)]
    for owner, name in (
        (torch, "relu"), (Tensor, "relu"), (Tensor, "add"), (Tensor, "sub"), (Tensor, "mul"), (Tensor, "div"),
        (Tensor, "sigmoid"), (Tensor, "tanh"), (Tensor, "neg"),
    )
}  # fmt: skip
"""Torch function that writes into its first argument → operation that gives what it holds then."""
