"""Which axes of the inputs have no fixed length, in the words of torch.export."""

from typing import Any

import torch

from ..models import Model

__all__ = ["dynamic_shapes"]


def dynamic_shapes(model: Model) -> tuple[dict[int, Any], ...]:
    """For each input."""
    return tuple(dict.fromkeys(model.varying, torch.export.Dim.AUTO) for _ in model.arguments)
