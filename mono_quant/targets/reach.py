"""From a target to the layers that are given more bits, or fewer, or are kept in float."""

from collections.abc import Callable, Mapping

import attrs

from mono_quant._size import size_text
from mono_quant.errors import ConfigurationError
from mono_quant.plugin_api import Plan
from mono_quant.targets.record import FLOAT, Evaluation, Found
from mono_quant.targets.search import Step, cheapest
from mono_quant.targets.target import MaxDrop, MaxSize, MinSQNR, Target
from mono_quant.targets.trial import Trial

__all__ = ["reach"]

_HUGE = 1e30
_RANKED_ON = 1
"""Batches that layers are ranked on: the order matters, not the figures."""


def reach(trial: Trial, target: Target, plan: Plan) -> Found:
    """The way to a target, or the nearest that was found where it cannot be reached.

    Args:
        trial: of the model.
        target: what is asked for.
        plan: what the run quantizes by itself, and how.
    """
    if isinstance(target, MaxSize):
        measured, changed = _within_size(trial, target, plan)
        return measured.found(changed, f"size <= {size_text(target.nbytes / 2**20)}", " bytes")
    if isinstance(target, MinSQNR):
        measured, changed = _exact_enough(trial, target, plan, trial.sqnr_db, target.db)
        return measured.found(changed, f"output SQNR >= {target.db:g} dB", " dB")
    if isinstance(target, MaxDrop):
        metric = target.metric
        exact = float(metric(trial.choose({})))
        least = exact - target.drop
        measured, changed = _exact_enough(trial, target, plan, lambda ways: float(metric(trial.choose(ways))), least)
        name = getattr(metric, "__name__", type(metric).__name__)
        return measured.found(changed, f"{name} >= {least:.6g}, that of float less {target.drop:g}", "")
    raise ConfigurationError(f"a target is MinSQNR, MaxDrop or MaxSize, got {type(target).__name__}")


@attrs.frozen(eq=False)
class _Measured:
    """Measures choices and remembers what came out."""

    base: Mapping[str, str]
    value: Callable[[dict[str, str]], float]
    suffices: Callable[[float], bool]
    seen: list[Evaluation] = attrs.field(factory=list)

    def is_met(self, changed: dict[str, str]) -> bool:
        reached = self.value({**self.base, **changed})
        self.seen.append(Evaluation(changed=changed, value=reached, is_met=self.suffices(reached)))
        return self.seen[-1].is_met

    def found(self, changed: dict[str, str] | None, title: str, unit: str) -> Found:
        """The outcome: that choice, or where there is none the nearest that was seen."""
        last = max(self.seen, key=lambda one: one.value) if changed is None else self._of(changed)
        return Found(
            target=title, unit=unit, evaluations=tuple(self.seen), changed=last.changed, value=last.value,
            is_met=last.is_met,
        )  # fmt: skip

    def _of(self, changed: dict[str, str]) -> Evaluation:
        return next(evaluation for evaluation in self.seen if evaluation.changed == changed)


def _exact_enough(
    trial: Trial, target: Target, plan: Plan, value: Callable[[dict[str, str]], float], least: float
) -> tuple[_Measured, dict[str, str] | None]:
    base = {name: layer.scheme for name, layer in plan.layers.items()}
    measured = _Measured(base, value, lambda reached: reached >= least)
    if measured.is_met({}):
        return measured, {}
    ladders = [_ladder(trial, name) for name in trial.free]
    return measured, cheapest(ladders, measured.is_met, target.evaluations - 1)


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


def _within_size(trial: Trial, target: MaxSize, plan: Plan) -> tuple[_Measured, dict[str, str] | None]:
    """Fewer bits for the layers that add the least noise for each byte that they save."""
    base = {name: layer.scheme for name, layer in plan.layers.items()}
    measured = _Measured(base, lambda choice: float(trial.total_bytes(choice)), lambda size: size <= target.nbytes)
    if measured.is_met({}):
        return measured, {}
    steps: list[tuple[float, str, str]] = []
    for name in trial.free:
        ways = [way for way in trial.ways(name) if way != FLOAT]
        before = _noise(trial.sqnr_db({name: ways[0]}, _RANKED_ON))
        for way in ways[1:]:
            saved = trial.nbytes(name, ways[0]) - trial.nbytes(name, way)
            if saved > 0:
                added = _noise(trial.sqnr_db({name: way}, _RANKED_ON)) - before
                steps.append((added / saved, name, way))
    changed: dict[str, str] = {}
    for _, name, way in sorted(steps):
        changed = {**changed, name: way}
        if trial.total_bytes({**base, **changed}) <= target.nbytes:
            break
    for name in list(changed)[:-1]:  # the last one may make an earlier one needless
        fewer = {other: way for other, way in changed.items() if other != name}
        if trial.total_bytes({**base, **fewer}) <= target.nbytes:
            changed = fewer
    return measured, changed if measured.is_met(changed) else None


def _noise(sqnr_db: float) -> float:
    """The energy of noise as a part of the signal's; a huge number where the output is not finite."""
    return min(10 ** (-sqnr_db / 10), _HUGE)
