"""A progress bar where there is something to wait for and tqdm to show it."""

from collections.abc import Iterable
from typing import TypeVar

__all__ = ["with_progress"]

T = TypeVar("T")

try:
    from tqdm.auto import tqdm as _tqdm
except ImportError:  # a broken or missing tqdm costs the bar, nothing else
    _tqdm = None


def with_progress(
    items: Iterable[T], *, total: int | None, label: str, show: bool | None, unit: str = "batch"
) -> Iterable[T]:
    """``items``, with a bar on standard error when ``show``; None shows it on a terminal, and no pieces in a log."""
    if show is False or _tqdm is None:
        return items
    bar: Iterable[T] = _tqdm(items, total=total, desc=label, unit=unit, disable=None if show is None else False)
    return bar
