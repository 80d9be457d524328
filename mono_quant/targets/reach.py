"""From a target to the layers that are given more bits, or fewer, or are kept in float."""

from collections.abc import Callable

import attrs
from torch import nn

from mono_quant._size import size_text
from mono_quant.errors import ConfigurationError
from mono_quant.targets.record import FLOAT, Evaluation, Found
from mono_quant.targets.search import Step, cheapest
from mono_quant.targets.target import MaxDrop, MaxSize, MinSQNR, Target
from mono_quant.targets.trial import Trial, total_bytes

__all__ = ["confirm", "reach"]

_BYTES = " bytes"

_HUGE = 1e30
_RANKED_ON = 1
"""Batches that layers are ranked on: the order matters, not the figures."""


def reach(trial: Trial, target: Target, further: Callable[[], None]) -> Found:
    """The way to a target, or the nearest that was found where it cannot be reached.

    Args:
        trial: of the model.
        target: what is asked for.
        further: adds the further ways to the trial; called when what was asked for does not suffice.
    """
    measured = _measured(trial, target)
    if measured.is_met({}):
        return measured.found({})
    further()
    search = _within_size if isinstance(target, MaxSize) else _exact_enough
    return measured.found(search(trial, measured, target))


def confirm(found: Found, trial: Trial, target: Target, model: nn.Module) -> Found:
    """What a target's figure is of the model that was made in the end."""
    measured = _measured(trial, target)
    value = measured.of_model(model)
    return attrs.evolve(found, value=value, is_met=found.is_met and measured.suffices(value))


@attrs.frozen(kw_only=True, eq=False)
class _Measured:
    """A target's figure of choices, and what came out so far."""

    trial: Trial
    title: str
    unit: str
    of_model: Callable[[nn.Module], float]
    suffices: Callable[[float], bool]
    seen: list[Evaluation] = attrs.field(factory=list)

    def is_met(self, changed: dict[str, str]) -> bool:
        value = self.of_model(self.trial.choose(self.trial.with_all(changed)))
        self.seen.append(Evaluation(changed=changed, value=value, is_met=self.suffices(value)))
        return self.seen[-1].is_met

    def found(self, changed: dict[str, str] | None) -> Found:
        """The outcome: that choice, or where there is none the nearest that was seen."""
        if changed is None:
            lowest = self.unit == _BYTES
            last = (min if lowest else max)(self.seen, key=lambda evaluation: evaluation.value)
        else:
            last = next(evaluation for evaluation in self.seen if evaluation.changed == changed)
        return Found(
            target=self.title, unit=self.unit, evaluations=tuple(self.seen), changed=last.changed, value=last.value,
            is_met=last.is_met,
        )  # fmt: skip


def _measured(trial: Trial, target: Target) -> _Measured:
    if isinstance(target, MaxSize):
        return _Measured(
            trial=trial, title=f"size <= {size_text(target.nbytes / 2**20)}", unit=_BYTES, of_model=total_bytes,
            suffices=lambda size: size <= target.nbytes,
        )  # fmt: skip
    if isinstance(target, MinSQNR):
        return _Measured(
            trial=trial, title=f"output SQNR >= {target.db:g} dB", unit=" dB", of_model=trial.sqnr_of,
            suffices=lambda db: db >= target.db,
        )  # fmt: skip
    if isinstance(target, MaxDrop):
        metric = target.metric
        least = float(metric(trial.choose({}))) - target.drop
        name = getattr(metric, "__name__", type(metric).__name__)
        return _Measured(
            trial=trial, title=f"{name} >= {least:.6g}, that of float less {target.drop:g}", unit="",
            of_model=lambda model: float(metric(model)), suffices=lambda figure: figure >= least,
        )  # fmt: skip
    raise ConfigurationError(f"a target is MinSQNR, MaxDrop or MaxSize, got {type(target).__name__}")


def _exact_enough(trial: Trial, measured: _Measured, target: Target) -> dict[str, str] | None:
    ladders = [_ladder(trial, name) for name in trial.free]
    return cheapest(ladders, measured.is_met, target.evaluations - 1)


def _ladder(trial: Trial, name: str) -> list[Step]:
    """The steps of one layer, from the run's own scheme by other ones to float; none that makes more noise."""
    own, *others = trial.ways(name)
    noise, size = _noise(trial.sqnr_db({name: own}, _RANKED_ON)), trial.nbytes(name, own)
    steps: list[Step] = []
    for way in others:
        less = 0.0 if way == FLOAT else _noise(trial.sqnr_db({name: way}, _RANKED_ON))
        if less < noise or way == FLOAT:
            steps.append(Step(layer=name, way=way, gain=noise - less, cost=max(trial.nbytes(name, way) - size, 0)))
            noise, size = less, trial.nbytes(name, way)
    return steps


def _within_size(trial: Trial, measured: _Measured, target: Target) -> dict[str, str] | None:
    """Fewer bits for the layers that add the least noise for each byte that they save; sizes need no model to run."""
    del target
    steps: list[tuple[float, str, str]] = []
    for name in trial.free:
        own, *others = trial.ways(name)
        before = _noise(trial.sqnr_db({name: own}, _RANKED_ON))
        for way in others:
            saved = trial.nbytes(name, own) - trial.nbytes(name, way)
            if way != FLOAT and saved > 0:
                added = _noise(trial.sqnr_db({name: way}, _RANKED_ON)) - before
                steps.append((added / saved, name, way))

    def fits(changed: dict[str, str]) -> bool:
        return measured.suffices(total_bytes(trial.choose(trial.with_all(changed))))

    changed: dict[str, str] = {}
    for _, name, way in sorted(steps):
        changed = {**changed, name: way}
        if fits(changed):
            break
    for name in list(changed)[:-1]:  # the last one may make an earlier one needless
        fewer = {other: way for other, way in changed.items() if other != name}
        if fits(fewer):
            changed = fewer
    return changed if measured.is_met(changed) else None


def _noise(sqnr_db: float) -> float:
    """The energy of noise as a part of the signal's; a huge number where the output is not finite."""
    return min(10 ** (-sqnr_db / 10), _HUGE)
