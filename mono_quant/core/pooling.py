"""Max-pooling of floats and codes in whatever layout: torch's takes no bytes, and channels-last floats slowly."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["max_pool2d"]


def max_pool2d(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """The largest element in each window, one axis after the other.

    Args:
        x: float32 or uint8 ``(N, C, H, W)``, in any layout; NaN is larger than any number.
        kernel: height and width of a window, as of ``functional.max_pool2d``; so the others.
        stride: from one window to the next.
        padding: on both sides, with what is never the largest: the lowest there is, since every window has an element.
        dilation: from one element of a window to the next.
    """
    rows, columns = padding
    if rows or columns:
        lowest = -torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        x = functional.pad(x, (columns, columns, rows, rows), value=lowest)
    for axis in (0, 1):
        x = _largest_along(x, axis + 2, kernel[axis], stride[axis], dilation[axis])
    return x.clone() if max(kernel) == 1 else x  # where nothing was compared, it is a view


def _largest_along(x: Tensor, axis: int, size: int, stride: int, dilation: int) -> Tensor:
    count = (x.shape[axis] - dilation * (size - 1) - 1) // stride + 1
    length = stride * (count - 1) + 1
    # Every stride-th element, by a view that keeps the layout.
    steps = tuple(slice(None, None, stride) if one == axis else slice(None) for one in range(x.ndim))
    windows = [x.narrow(axis, dilation * i, length)[steps] for i in range(size)]
    largest = windows[0] if size == 1 else torch.maximum(*windows[:2])
    for window in windows[2:]:
        torch.maximum(largest, window, out=largest)
    return largest
