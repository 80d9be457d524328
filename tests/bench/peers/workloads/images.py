"""Random images, and BatchNorm that fits them."""

import torch
from torch import nn

from .record import Inputs

__all__ = ["random_images", "settle_batch_norm"]

_PASSES = 4
_SIZE = 224


def random_images(shape: tuple[int, ...], count: int, *, held_back: bool) -> list[Inputs]:
    """Normal noise, as standardised images have it: ``count`` times ``[N, 3, H, W]``."""
    generator = torch.Generator().manual_seed(2 if held_back else 1)
    return [(torch.randn(shape, generator=generator),) for _ in range(count)]


def settle_batch_norm(model: nn.Module) -> nn.Module:
    """The model in eval mode, each BatchNorm with the mean statistics of a few batches.

    With those of a new one, mean 0 and variance 1, activations would grow or vanish from layer to layer.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain mean over all batches
    model.train()
    with torch.no_grad():
        for (images,) in random_images((4, 3, _SIZE, _SIZE), _PASSES, held_back=False):
            model(images)
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()
