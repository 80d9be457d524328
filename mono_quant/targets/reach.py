"""From a target to the layers that are given more bits, or fewer, or are kept in float."""

from collections.abc import Callable
from typing import Any

import attrs
from torch import nn

from mono_quant._size import size_text
from mono_quant.calibration.runner import evaluating
from mono_quant.errors import ConfigurationError
from mono_quant.targets.record import FLOAT, Evaluation, Found
from mono_quant.targets.search import Step, cheapest
from mono_quant.targets.target import MaxDrop, MaxSize, Metric, MinSQNR, Target
from mono_quant.targets.trial import Trial, total_bytes

__all__ = ["Search", "measured"]

_HUGE = 1e30
_SPARE = 2
"""Evaluations that are left for models that come out worse than they were tried: a fifth of them, and no more."""
_RANKED_ON = 1
"""Batches that layers are ranked on: the order matters, not the figures."""


class Search:
    """The way to a target.

    Args:
        trial: of the model.
        target: what is asked for.
        further: adds further ways to the trial; called once, when what was asked for does not suffice.
        storable: gives the nearest choice that can be saved, or None for none.
    """

    def __init__(
        self,
        trial: Trial,
        target: Target,
        further: Callable[[], None],
        storable: Callable[[dict[str, str]], dict[str, str] | None] = lambda changed: changed,
    ) -> None:
        self._trial = trial
        self._target = target
        self._further = further
        self._storable = storable
        self._figure = _figure_of(trial, target)
        self._seen: list[Evaluation] = []

    @property
    def title(self) -> str:
        """What is asked for."""
        return self._figure.title

    def run(self) -> dict[str, str]:
        """Layer → way for those that are changed: the cheapest choice that suffices, or the nearest that was seen."""
        if self._is_met({}):
            return {}
        self._further()
        changed = self._within_size() if isinstance(self._target, MaxSize) else self._exact_enough()
        changed = None if changed is None else self._storable(changed)
        return self._nearest() if changed is None else changed

    def confirm(self, changed: dict[str, str], model: nn.Module) -> Found:
        """What came out, with the figure of the model that was made in the end."""
        value = self._figure.of(model)
        is_met = self._figure.suffices(value)
        self._seen.append(Evaluation(changed=changed, value=value, is_met=is_met))
        return Found(
            target=self._figure.title, unit=self._figure.unit, evaluations=tuple(self._seen), changed=changed,
            value=value, is_met=is_met,
        )  # fmt: skip

    def dearer(self, changed: dict[str, str]) -> dict[str, str] | None:
        """The next choice, where this one suffices when it is tried and not in the model that is made of it.

        Both can differ by a little: layers are tried one beside the other, and fused in the end.
        """
        if len(self._seen) >= self._target.evaluations:
            return None
        met = [evaluation for evaluation in self._seen if evaluation.is_met]  # the dearer ones came first
        tried = [evaluation.value for evaluation in met if evaluation.changed == changed]
        sign = -1 if self._figure.is_better_lower else 1
        better = [evaluation for evaluation in met if tried and sign * evaluation.value > sign * max(tried)]
        return better[-1].changed if better else None

    def _is_met(self, changed: dict[str, str]) -> bool:
        choice = self._storable(changed)
        if choice is None:
            return False
        value = self._figure.of(self._trial.choose(self._trial.with_all(choice)))
        self._seen.append(Evaluation(changed=choice, value=value, is_met=self._figure.suffices(value)))
        return self._seen[-1].is_met

    def _nearest(self) -> dict[str, str]:
        best = min if self._figure.is_better_lower else max
        return best(self._seen, key=lambda evaluation: evaluation.value).changed

    def _exact_enough(self) -> dict[str, str] | None:
        ladders = [self._ladder(name) for name in self._trial.free]
        left = max(self._target.evaluations - 2, 0)  # the first one, and the model that is made in the end
        left -= min(_SPARE, left // 5)
        return cheapest(ladders, self._is_met, left, may_take_all=len(self._trial.free) < len(self._trial.layers))

    def _ladder(self, name: str) -> list[Step]:
        """The steps of one layer, from what was asked for by other ways to float; none that makes more noise."""
        own, *others = self._trial.ways(name)
        noise, size = self._noise(name, own), self._trial.nbytes(name, own)
        steps: list[Step] = []
        for way in others:
            less = 0.0 if way == FLOAT else self._noise(name, way)
            if less < noise or way == FLOAT:
                cost = max(self._trial.nbytes(name, way) - size, 0)
                steps.append(Step(layer=name, way=way, gain=noise - less, cost=cost))
                noise, size = less, self._trial.nbytes(name, way)
        return steps

    def _within_size(self) -> dict[str, str] | None:
        """Fewer bits for the layers that add the least noise for each byte that they save; sizes need no data."""
        steps: list[tuple[float, str, str]] = []
        for name in self._trial.free:
            own, *others = self._trial.ways(name)
            before = self._noise(name, own)
            for way in others:
                saved = self._trial.nbytes(name, own) - self._trial.nbytes(name, way)
                if way != FLOAT and saved > 0:
                    steps.append(((self._noise(name, way) - before) / saved, name, way))
        changed: dict[str, str] = {}
        for _, name, way in sorted(steps):
            if name not in changed or self._trial.nbytes(name, way) < self._trial.nbytes(name, changed[name]):
                changed = {**changed, name: way}
            if self._fits(changed):
                break
        for name in list(changed)[:-1]:  # the last one may make an earlier one needless
            fewer = {other: way for other, way in changed.items() if other != name}
            if self._fits(fewer):
                changed = fewer
        return changed if self._is_met(changed) else None

    def _fits(self, changed: dict[str, str]) -> bool:
        choice = self._storable(changed)
        if choice is None:
            return False
        return self._figure.suffices(total_bytes(self._trial.choose(self._trial.with_all(choice))))

    def _noise(self, name: str, way: str) -> float:
        """What the output loses when this layer alone is quantized; a huge number where it is not finite."""
        if self._trial.has_float_outputs:
            return min(10 ** (-self._trial.sqnr_db({name: way}, _RANKED_ON) / 10), _HUGE)
        return max(self._figure.exact - self._figure.of(self._trial.choose({name: way})), 0.0)


def measured(metric: Metric, model: nn.Module) -> float:
    """A metric's figure of a model in eval mode, which it is given back in the mode it was in."""
    with evaluating(model):
        return float(metric(model))


@attrs.frozen(kw_only=True, eq=False)
class _Figure:
    """What a target measures.

    Args:
        title: the target as text.
        unit: of the figure.
        of: the figure of a model.
        suffices: whether it is enough.
        is_better_lower: whether less is nearer to the target.
        exact: the figure of the float model, where it is needed.
    """

    title: str
    unit: str
    of: Callable[[nn.Module], float]
    suffices: Callable[[float], bool]
    is_better_lower: bool = False
    exact: float = 0.0


def _figure_of(trial: Trial, target: Target) -> _Figure:
    if isinstance(target, MaxSize):
        nbytes = target.nbytes
        title = f"size <= {size_text(nbytes / 2**20)}"
        return _Figure(
            title=title, unit=" bytes", of=total_bytes, suffices=lambda size: size <= nbytes, is_better_lower=True
        )
    if isinstance(target, MinSQNR):
        db = target.db
        title = f"output SQNR >= {db:g} dB"
        return _Figure(title=title, unit=" dB", of=trial.sqnr_of, suffices=lambda reached: reached >= db)
    if isinstance(target, MaxDrop):
        return _of_a_metric(trial, target)
    raise ConfigurationError(f"a target is MinSQNR, MaxDrop or MaxSize, got {type(target).__name__}")


def _of_a_metric(trial: Trial, target: MaxDrop) -> _Figure:
    metric: Any = target.metric
    name = getattr(metric, "__name__", type(metric).__name__)
    exact = measured(metric, trial.choose({}))
    least = exact - target.drop
    if least != least:  # noqa: PLR0124 - a NaN
        raise ConfigurationError(f"the metric {name} of the float model is not a number")
    return _Figure(
        title=f"{name} >= {least:.6g}, that of float less {target.drop:g}", unit="",
        of=lambda model: measured(metric, model), suffices=lambda figure: figure >= least, exact=exact,
    )  # fmt: skip
