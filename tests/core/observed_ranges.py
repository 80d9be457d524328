"""Observers with data in them, and what they found."""

from torch import Tensor

from mono_quant.core.observers import MinMaxObserver

__all__ = ["ends", "observed"]


def observed(*tensors: Tensor, **options: object) -> MinMaxObserver:
    """An observer with these options that has seen these tensors."""
    observer = MinMaxObserver(**options)  # type: ignore[arg-type]
    for x in tensors:
        observer.forward(x)
    return observer


def ends(observer: MinMaxObserver) -> tuple[list[float], list[float]] | None:
    """Its range as numbers, one for each group."""
    low_high = observer.range()
    return None if low_high is None else (low_high[0].tolist(), low_high[1].tolist())
