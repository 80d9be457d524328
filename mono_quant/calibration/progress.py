"""A progress bar where there is something to wait for and tqdm to show it."""

from collections.abc import Iterable
from typing import TypeVar

__all__ = ["with_progress"]

T = TypeVar("T")

try:
    from tqdm.auto import tqdm as _tqdm
except ImportError:  # a broken or missing tqdm costs the bar, nothing else
    _tqdm = None


def with_progress(items: Iterable[T], *, total: int | None, label: str, show: bool, unit: str = "batch") -> Iterable[T]:
    """``items``, with a bar on standard error when ``show``."""
    return _tqdm(items, total=total, desc=label, unit=unit) if show and _tqdm is not None else items
