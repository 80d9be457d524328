"""What the gate is asked for."""

from collections.abc import Callable

from torch import nn

from mono_quant import MaxDrop, MinSQNR
from mono_quant.targets import Target
from tests.real_models.remembering import Remembering

from .models import Model

__all__ = ["TARGETS"]


def _min_sqnr(db: float) -> Callable[[Model, nn.Module], Target]:
    return lambda _model, _module: MinSQNR(db)


def _max_drop(model: Model, module: nn.Module) -> Target:
    floats = Remembering(module)

    def metric(candidate: nn.Module) -> float:
        figure = model.score(candidate, floats)[model.figure]
        return -figure if model.is_better_lower else figure

    return MaxDrop(metric, model.drop)


TARGETS: dict[str, Callable[[Model, nn.Module], Target]] = {
    "MinSQNR(30)": _min_sqnr(30.0),
    "MinSQNR(40)": _min_sqnr(40.0),
    "MaxDrop": _max_drop,
}
"""Title → the target for a model."""
