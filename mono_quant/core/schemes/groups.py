"""Groups of weights that share a scale, where the number of weights is no multiple of the group."""

from typing import Literal

from mono_quant.errors import UnsupportedLayerError

__all__ = ["Misfit", "fitting_group"]

Misfit = Literal["error", "adjust", "pad"]

_SMALLEST = 16
"""Smaller groups would have scales that weigh about as much as their codes."""


def fitting_group(layer: str, per_channel: int, size: int, misfit: Misfit) -> int:
    """The group size for a layer.

    >>> (
    ...     fitting_group("fc", 384, 128, "error"),
    ...     fitting_group("fc", 320, 128, "adjust"),
    ...     fitting_group("fc", 20, 128, "pad"),
    ... )
    (128, 80, 20)

    Args:
        layer: its name, for the error.
        per_channel: weights of one output channel.
        size: what was asked for; several neighbours share a scale.
        misfit: ``"error"``, ``"adjust"``: the largest size below that divides, but at least 16, else the whole channel;
            ``"pad"``: the size as it is, with a last group that is shorter.

    Raises:
        UnsupportedLayerError: when it does not divide and ``misfit`` is ``"error"``.
    """
    if per_channel % size == 0 or misfit == "pad":
        return min(size, per_channel)
    if misfit == "adjust":
        divisors = (group for group in range(min(size, per_channel), _SMALLEST - 1, -1) if per_channel % group == 0)
        return next(divisors, per_channel)
    raise UnsupportedLayerError(
        f"layer {layer or '(model)'!r} has {per_channel} weights in each channel, no multiple of group_size {size}: "
        'give the scheme another group_size, or the misfit "adjust" (smaller groups) or "pad" (a shorter last group), '
        'in Python and on the command line as {"name": ..., "misfit": "adjust"}; or exclude the layer'
    )
