"""The smallest and the largest value of each group."""

import torch
from torch import Tensor

__all__ = ["ends_of"]


def ends_of(view: Tensor) -> tuple[Tensor, Tensor]:
    """``(observations, groups, elements) → (min, max)``, each ``(groups,)``, in the dtype of the view.

    They share no memory with it. A NaN in a group makes both NaN.
    """
    if view.shape[1] == 1:
        low, high = torch.aminmax(view)
        return low.reshape(1), high.reshape(1)
    return view.amin(dim=(0, 2)), view.amax(dim=(0, 2))
