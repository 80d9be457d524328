"""CREPE tiny, a pitch tracker: 0.49 M parameters, 6 Conv2d, BatchNorm after ReLU (so that it cannot be folded), Linear.

| figure         | of                                                                     | float |
|----------------|------------------------------------------------------------------------|-------|
| median_cents   | median distance from the true pitch of 256 tones, in cents             | 2.58  |
| relative_error | norm of the outputs' difference from the float model's, over all tones | 0     |
"""

import sys
from importlib import import_module
from types import ModuleType

import torch
from torch import nn

from .assets import asset
from .figures import relative_error
from .record import ModelInput
from .tones import tones

__all__ = ["calibration", "example", "held_back", "load", "score"]

_BINS = 360
_CENTS_PER_BIN = 20
_FIRST_BIN_CENTS = 1997.3794084376191  # above 10 Hz


def load() -> nn.Module:
    """A `Crepe`: frames ``[N, 1024]`` float32 → how likely each pitch is, ``[N, 360]`` in [0, 1]."""
    model = _crepe_class()("tiny")
    model.load_state_dict(torch.load(asset("torchcrepe", "torchcrepe/assets/tiny.pth"), weights_only=True))
    return model


def calibration() -> list[ModelInput]:
    """16 batches of 16 frames: ``[16, 1024]``."""
    return [tones(16, seed=seed)[0] for seed in range(1, 17)]


def example(batch_size: int) -> ModelInput:
    """Frames ``[batch_size, 1024]``."""
    return tones(batch_size, seed=1)[0]


def held_back() -> ModelInput:
    """Frames ``[16, 1024]``."""
    return tones(16, seed=0)[0]


def score(model: nn.Module, float_model: nn.Module) -> dict[str, float]:
    """The figures of this file's table."""
    frames, hertz = tones(256, seed=0)
    outputs = model(frames)
    cents = 1200 * torch.log2(hertz / 10)
    return {
        "median_cents": float((_pitch_cents(outputs) - cents).abs().median()),
        "relative_error": relative_error(outputs, float_model(frames)),
    }


def _crepe_class() -> type[nn.Module]:
    """`torchcrepe.model.Crepe`, without the audio packages that ``import torchcrepe`` asks for.

    The model's file needs of its package only the path and one constant, so a module with these stands in for it. It
    stays in `sys.modules`, where pickle looks the class up.
    """
    if "torchcrepe" not in sys.modules:
        package = ModuleType("torchcrepe")
        package.__path__ = [str(asset("torchcrepe", "torchcrepe"))]
        vars(package)["PITCH_BINS"] = _BINS
        sys.modules["torchcrepe"] = package
    crepe: type[nn.Module] = import_module("torchcrepe.model").Crepe
    return crepe


def _pitch_cents(outputs: torch.Tensor) -> torch.Tensor:
    """Mean of the nine bins around the likeliest, weighted by the outputs ``[N, 360]`` → ``[N]`` cents above 10 Hz.

    CREPE's own decoding: Kim et al., "CREPE: A Convolutional Representation for Pitch Estimation", 2018, section 2.
    """
    bins = torch.arange(_BINS)
    near = (bins - outputs.argmax(1, keepdim=True)).abs() <= 4
    weights = outputs * near
    return (weights * (_FIRST_BIN_CENTS + _CENTS_PER_BIN * bins)).sum(1) / weights.sum(1)
