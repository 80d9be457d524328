"""A view in pieces that stay in a processor's cache."""

from collections.abc import Iterator

from torch import Tensor

__all__ = ["pieces"]

_ELEMENTS = 2**18
"""Of float32 a MiB. On fewer, operations take longer to begin than to run; on more, in fresh memory of the size of an
activation, they take several times as long."""


def pieces(view: Tensor, *, least: int = 1) -> Iterator[Tensor]:
    """``(observations, groups, elements)`` as one ``(groups, n)`` after another.

    Args:
        view: with at least one element.
        least: how many elements of a group a piece has at least, if there are so many.
    """
    rows = view.transpose(0, 1).flatten(1)
    length = max(_ELEMENTS // rows.shape[0], least)
    for begin in range(0, rows.shape[1], length):
        yield rows[:, begin : begin + length]
