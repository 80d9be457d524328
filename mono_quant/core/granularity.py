"""Which elements of a tensor share one scale.

Every granularity turns a tensor into one canonical view of shape ``(observations, groups, elements)``, and a value per
group back into a shape that broadcasts against the tensor. An observer therefore never needs to know the layout.

=================  =====================  ===========================  =================================
granularity        tensor                 view                         value per group
=================  =====================  ===========================  =================================
``PerTensor()``    ``(N, ...)``           ``(N, 1, everything)``       ``()``
``PerChannel(0)``  ``(C, ...)``           ``(1, C, everything)``       ``(C,)``
``PerChannel(1)``  ``(N, C, ...)``        ``(1, C, everything)``       ``(C,)``
``PerGroup(g)``    ``(C, ...)``, K each   ``(1, C · ceil(K/g), g)``    ``(C · ceil(K/g),)``
``PerToken()``     ``(..., K)``           ``(1, tokens, K)``           ``(tokens,)``
=================  =====================  ===========================  =================================

A group is a run of ``g`` neighbours among the K elements of one channel; the last one may be shorter, and then its view
is filled up with zeros, which every range contains anyway.
"""

import re
from typing import Protocol

import attrs
from torch import Tensor
from torch.nn import functional

from mono_quant.errors import ConfigurationError

__all__ = ["Granularity", "PerChannel", "PerGroup", "PerTensor", "PerToken", "as_granularity"]


class Granularity(Protocol):
    """What the engine and the observers ask of a granularity."""

    def view(self, x: Tensor) -> Tensor:
        """``x`` as ``(observations, groups, elements)``, without a copy where the strides allow it."""
        ...

    def unview(self, per_group: Tensor) -> Tensor:
        """A value of shape ``(groups,)`` in the shape that users see."""
        ...


def _is_axis(_: object, field: "attrs.Attribute[int]", value: int) -> None:
    if type(value) is not int:
        raise ConfigurationError(f"the {field.name} of the channels must be a whole number, got {value!r}")


def _is_positive(_: object, field: "attrs.Attribute[int]", value: int) -> None:
    if type(value) is not int or value < 1:
        raise ConfigurationError(f"the {field.name} of a group must be a whole number of at least 1, got {value!r}")


@attrs.frozen
class PerTensor:
    """One scale for the whole tensor; the first dimension holds the observations."""

    def __str__(self) -> str:
        return "per-tensor"

    def view(self, x: Tensor) -> Tensor:
        """``(N, ...) → (N, 1, elements)``; the order of the elements is that of memory."""
        if x.ndim < 2:  # noqa: PLR2004 - a vector or a number is one observation
            return x.reshape(1, 1, -1)
        elements = x.numel() // max(x.shape[0], 1)
        if x.is_contiguous():  # as nearly every activation is: sorting its axes takes longer than finding its ends
            return x.reshape(x.shape[0], 1, elements)
        by_stride = sorted(range(1, x.ndim), key=x.stride, reverse=True)
        return x.permute(0, *by_stride).reshape(x.shape[0], 1, elements)

    def unview(self, per_group: Tensor) -> Tensor:
        """``(1,) → ()``."""
        return per_group.reshape(())


@attrs.frozen
class PerChannel:
    """One scale for each index along ``axis``."""

    axis: int = attrs.field(default=0, validator=_is_axis)

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


@attrs.frozen
class PerGroup:
    """One scale for each ``size`` neighbours within a channel, whose index runs along ``axis``."""

    size: int = attrs.field(validator=_is_positive)
    axis: int = attrs.field(default=0, validator=_is_axis)

    def __str__(self) -> str:
        return f"per-group({self.size})" if self.axis == 0 else f"per-group({self.size}, {self.axis})"

    def view(self, x: Tensor) -> Tensor:
        """``(..., C, ...) → (1, C · groups, size)``."""
        rows = PerChannel(self.axis).view(x)[0]
        padding = -rows.shape[1] % self.size
        return functional.pad(rows, (0, padding)).reshape(1, -1, self.size)

    def unview(self, per_group: Tensor) -> Tensor:
        """``(C · groups,)`` stays."""
        return per_group


@attrs.frozen
class PerToken:
    """One scale for each vector along the last axis: for activations, found when the model runs."""

    def __str__(self) -> str:
        return "per-token"

    def view(self, x: Tensor) -> Tensor:
        """``(..., K) → (1, tokens, K)``."""
        return x.reshape(1, -1, x.shape[-1])

    def unview(self, per_group: Tensor) -> Tensor:
        """``(tokens,)`` stays."""
        return per_group


def as_granularity(text: str) -> Granularity:
    """The granularity that prints as ``text``.

    >>> as_granularity("per-channel(0)"), as_granularity("per-group(128)")
    (PerChannel(axis=0), PerGroup(size=128, axis=0))
    """
    if text == "per-tensor":
        return PerTensor()
    if text == "per-token":
        return PerToken()
    if (axis := re.fullmatch(r"per-channel\((-?[0-9]+)\)", text)) is not None:
        return PerChannel(int(axis[1]))
    if (group := re.fullmatch(r"per-group\(([0-9]+)(?:, (-?[0-9]+))?\)", text)) is not None:
        return PerGroup(int(group[1]), int(group[2] or 0))
    message = (
        f"{text!r} is not a granularity; known: 'per-tensor', 'per-channel(<axis>)', 'per-group(<size>)', "
        "'per-group(<size>, <axis>)', 'per-token'"
    )
    raise ConfigurationError(message)
