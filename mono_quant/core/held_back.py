"""Holding a part of the data back, to try on it what was found from the rest."""

import random
from collections.abc import Iterator

from torch import Tensor

__all__ = ["is_held_back", "parts"]

_ONE_IN = 4


def is_held_back(number: int) -> bool:
    """Whether this one of many is: one of each four, the second of the first four, and any of the others.

    So what comes in turn is not always the same. It is the same in each run.
    """
    group, place = divmod(number, _ONE_IN)
    return place == (random.Random(group).randrange(_ONE_IN) if group else 1)  # noqa: S311 - no secret


def parts(x: Tensor, seen: int = 0) -> Iterator[tuple[Tensor, bool]]:
    """The samples of an input, along its first axis, in parts; whether each part is held back.

    The second sample is held back, the sixth, and so on.

    Args:
        x: ``(N, ...)``.
        seen: how many samples there were before it.
    """
    for first in range(_ONE_IN):
        part = x[first::_ONE_IN]
        if len(part):
            yield part, (seen + first) % _ONE_IN == 1
