"""MobileNetV2 (Sandler et al., 2018) in plain PyTorch, as torchvision builds it."""

import torch
from torch import Tensor, nn

from .images import random_images as inputs
from .images import settle_batch_norm

__all__ = ["inputs", "load"]

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, and stride of the first block."""


def load() -> nn.Module:
    """``[N, 3, 224, 224]`` → logits ``[N, 1000]``."""
    torch.manual_seed(0)
    return settle_batch_norm(_MobileNetV2())


class _MobileNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_norm_relu6(3, 32, 3, stride=2)]
        before = 32
        for expansion, channels, count, first_stride in _STAGES:
            for number in range(count):
                stride = 1 if number else first_stride
                layers.append(_InvertedResidual(before, channels, stride, expansion))
                before = channels
        layers.append(_conv_norm_relu6(before, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class _InvertedResidual(nn.Module):
    def __init__(self, before: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        self.is_residual = stride == 1 and before == channels
        self.conv = nn.Sequential(
            *([_conv_norm_relu6(before, inner, 1)] if expansion > 1 else []),
            _conv_norm_relu6(inner, inner, 3, stride=stride, groups=inner),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.is_residual else self.conv(x)


def _conv_norm_relu6(before: int, channels: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Module:
    conv = nn.Conv2d(before, channels, size, stride=stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))
