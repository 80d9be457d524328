"""Holding a part of the data back, to try on it what was found from the rest."""

from collections.abc import Iterator

from torch import Tensor

__all__ = ["ONE_IN", "parts"]

ONE_IN = 4


def parts(x: Tensor, seen: int = 0) -> Iterator[tuple[Tensor, bool]]:
    """The samples of an input, along its first axis, in parts; whether each part is held back.

    The second sample is held back, the sixth, and so on.

    Args:
        x: ``(N, ...)``.
        seen: how many samples there were before it.
    """
    for first in range(ONE_IN):
        part = x[first::ONE_IN]
        if len(part):
            yield part, (seen + first) % ONE_IN == 1
