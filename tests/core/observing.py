"""Observers with data in them, what they found, and what quantizing with that costs."""

from typing import TypeVar

import torch
from torch import Tensor

from mono_quant.core.affine import codes_of
from mono_quant.plugin_api import Observer

__all__ = ["ends_of", "heavy_tails", "seen", "squared_error"]

_AnyObserver = TypeVar("_AnyObserver", bound=Observer)


def seen(observer: _AnyObserver, *tensors: Tensor) -> _AnyObserver:
    """The observer, which has seen these tensors."""
    for x in tensors:
        observer.forward(x)
    return observer


def ends_of(observer: Observer) -> tuple[list[float], list[float]] | None:
    """Its range as numbers, one for each group."""
    found = observer.range()
    return None if found is None else (found[0].tolist(), found[1].tolist())


def squared_error(x: Tensor, observer: Observer) -> float:
    """The mean squared error of data that is quantized with an observer's scale, per tensor."""
    scale, zero_point = observer.calculate_qparams()
    back = (codes_of(x, scale, zero_point, observer.qtype) - zero_point) * scale
    return float((back - x).double().square().mean())


def heavy_tails(count: int, *, seed: int = 0) -> Tensor:
    """Numbers of the Laplace distribution, of which half are within 0.7, one in ten thousand is beyond 9."""
    uniform = torch.rand(2, count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (-uniform[0].log() * (uniform[1] - 0.5).sign()).float()
