"""The search for the cheapest choice that meets a target, over figures alone.

Steps give one layer a dearer way each, and are sorted by what they save of the noise for each byte they cost. The noise
of different layers adds up, about, so how many of them suffice is found by bisection; few are tried first, as long as
measurements for bisection remain. What is not needed of them is then taken back: those that cost most first, as long as
models may be measured.
"""

from collections.abc import Callable, Sequence

import attrs

__all__ = ["Step", "cheapest"]

_FURTHER = 4
"""How many times as many steps are tried next, while none suffice; from then on it is the middle."""


@attrs.frozen(kw_only=True)
class Step:
    """One layer gets another way.

    Args:
        layer: its name.
        way: what it has after this.
        gain: noise that this saves, at least 0.
        cost: bytes that it adds, at least 0.
    """

    layer: str
    way: str
    gain: float
    cost: int


def cheapest(
    ladders: Sequence[Sequence[Step]],
    is_met: Callable[[dict[str, str]], bool],
    evaluations: int,
    *,
    may_take_all: bool = False,
) -> dict[str, str] | None:
    """The ways of the layers that are changed, where no change does not suffice; None when no other choice does.

    Args:
        ladders: for each layer its steps, which are taken in this order; the last of each makes it exact.
        is_met: measures a choice; called at most so many times.
        evaluations: when they are used up, the cheapest choice that was seen to suffice is given.
        may_take_all: whether something is quantized still when all steps are taken; otherwise that is no choice.
    """
    budget = _Budget(is_met, evaluations)
    steps = _in_order(ladders)
    low, high = 0, len(steps)  # `low` steps do not suffice, `high` do
    if may_take_all and (not steps or budget.is_empty or not budget.is_met(_after(steps))):
        return None
    reach = 1  # few steps first: a metric may rise and fall again, and few mostly do
    while high - low > 1 and not budget.is_empty:
        half = (low + high) // 2
        may_be_bisected = budget.left > (high - low).bit_length()  # after one measurement more
        middle = min(half, reach) if may_be_bisected else half
        if budget.is_met(_after(steps[:middle])):
            high = middle
        else:
            low, reach = middle, _FURTHER * middle
    taken = steps[:high]
    needed = steps[high - 1] if high < len(steps) else None  # of which it was measured; all steps are known to suffice
    for step in sorted(taken, key=lambda step: -step.cost):
        fewer = [other for other in taken if other is not step]
        is_last = not any(other.layer == step.layer for other in taken[taken.index(step) + 1 :])
        if is_last and step is not needed and fewer and not budget.is_empty and budget.is_met(_after(fewer)):
            taken = fewer
    return _after(taken) if may_take_all or len(taken) < len(steps) else None


class _Budget:
    def __init__(self, is_met: Callable[[dict[str, str]], bool], evaluations: int) -> None:
        self._is_met = is_met
        self.left = evaluations

    @property
    def is_empty(self) -> bool:
        return self.left <= 0

    def is_met(self, choice: dict[str, str]) -> bool:
        self.left -= 1
        return self._is_met(choice)


def _in_order(ladders: Sequence[Sequence[Step]]) -> list[Step]:
    """All steps, the most worthwhile first, those of a layer in their own order."""
    worth = []
    for number, ladder in enumerate(ladders):
        at_most = float("inf")
        for place, step in enumerate(ladder):
            at_most = min(at_most, step.gain / max(step.cost, 1))
            worth.append((-at_most, number, place, step))
    return [step for *_, step in sorted(worth, key=lambda one: one[:3])]


def _after(steps: Sequence[Step]) -> dict[str, str]:
    return {step.layer: step.way for step in steps}
