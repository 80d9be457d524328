"""Which elements of a tensor share one scale.

Every granularity turns a tensor into one canonical view of shape ``(observations, groups, elements)``, and a value per
group back into a shape that broadcasts against the tensor. An observer therefore never needs to know the layout.

=================  =====================  =========================  ==================
granularity        tensor                 view                       value per group
=================  =====================  =========================  ==================
``PerTensor()``    ``(N, ...)``           ``(N, 1, everything)``     ``()``
``PerChannel(0)``  ``(C, ...)``           ``(1, C, everything)``     ``(C,)``
``PerChannel(1)``  ``(N, C, ...)``        ``(1, C, everything)``     ``(C,)``
=================  =====================  =========================  ==================
"""

import re
from typing import Protocol

import attrs
from torch import Tensor

from mono_quant.errors import ConfigurationError

__all__ = ["Granularity", "PerChannel", "PerTensor", "as_granularity"]


class Granularity(Protocol):
    """What the engine and the observers ask of a granularity."""

    def view(self, x: Tensor) -> Tensor:
        """``x`` as ``(observations, groups, elements)``, without a copy where the strides allow it."""
        ...

    def unview(self, per_group: Tensor) -> Tensor:
        """A value of shape ``(groups,)`` in the shape that users see."""
        ...

    def expand(self, per_group: Tensor, ndim: int) -> Tensor:
        """A value in the users' shape, reshaped to broadcast against a tensor of ``ndim`` dimensions."""
        ...


@attrs.frozen
class PerTensor:
    """One scale for the whole tensor; the first dimension holds the observations."""

    def __str__(self) -> str:
        return "per-tensor"

    def view(self, x: Tensor) -> Tensor:
        """``(N, ...) → (N, 1, elements)``; the order of the elements is that of memory."""
        if x.ndim < 2:  # noqa: PLR2004 - a vector or a number is one observation
            return x.reshape(1, 1, -1)
        by_stride = sorted(range(1, x.ndim), key=x.stride, reverse=True)
        return x.permute(0, *by_stride).reshape(x.shape[0], 1, x[0].numel() if x.shape[0] else 0)

    def unview(self, per_group: Tensor) -> Tensor:
        """``(1,) → ()``."""
        return per_group.reshape(())

    def expand(self, per_group: Tensor, ndim: int) -> Tensor:
        """A 0-d value broadcasts as it is."""
        del ndim
        return per_group


@attrs.frozen
class PerChannel:
    """One scale for each index along ``axis``."""

    axis: int = 0

    def __str__(self) -> str:
        return f"per-channel({self.axis})"

    def view(self, x: Tensor) -> Tensor:
        """``(..., C, ...) → (1, C, elements)``.

        Raises:
            ConfigurationError: when ``x`` has no such axis.
        """
        if not -x.ndim <= self.axis < x.ndim:
            message = f"PerChannel(axis={self.axis}) does not fit a tensor of shape {tuple(x.shape)}"
            raise ConfigurationError(message)
        moved = x.movedim(self.axis, 0)
        channels = moved.shape[0]
        return moved.reshape(1, channels, moved[0].numel() if channels else 0)

    def unview(self, per_group: Tensor) -> Tensor:
        """``(C,)`` stays ``(C,)``."""
        return per_group

    def expand(self, per_group: Tensor, ndim: int) -> Tensor:
        """``(C,) → (1, ..., C, ..., 1)`` with C on ``axis``."""
        shape = [1] * ndim
        shape[self.axis] = -1
        return per_group.reshape(shape)


def as_granularity(text: str) -> Granularity:
    """The granularity that prints as ``text``.

    >>> as_granularity("per-channel(0)")
    PerChannel(axis=0)
    """
    if text == "per-tensor":
        return PerTensor()
    axis = re.fullmatch(r"per-channel\((-?[0-9]+)\)", text)
    if axis is not None:
        return PerChannel(int(axis[1]))
    message = f"{text!r} is not a granularity; known: 'per-tensor', 'per-channel(<axis>)'"
    raise ConfigurationError(message)
