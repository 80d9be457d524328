"""The models that are measured: the real ones, and a multilayer perceptron with random weights."""

from collections.abc import Callable

import attrs
import torch
from torch import nn

from tests.real_models import REAL_MODELS, ModelInput

__all__ = ["Workload", "workload"]


@attrs.frozen
class Workload:
    """A model with its data; ``score`` is None where there is no task."""

    name: str
    load: Callable[[], nn.Module]
    calibration: Callable[[], list[ModelInput]]
    example: Callable[[int], ModelInput]
    held_back: Callable[[], ModelInput]
    score: Callable[[nn.Module, nn.Module], dict[str, float]] | None


def workload(name: str) -> Workload:
    """The workload of that name."""
    if name == "mlp":
        return Workload(
            name="mlp",
            load=_mlp,
            calibration=lambda: [torch.randn(64, 1024) for _ in range(16)],
            example=lambda n: torch.randn(n, 1024),
            held_back=lambda: torch.randn(16, 1024, generator=torch.Generator().manual_seed(1)),
            score=None,
        )
    model = next(model for model in REAL_MODELS if model.name == name)
    return Workload(name, model.load, model.calibration, model.example, model.held_back, model.score)


def _mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1024)
    ).eval()
