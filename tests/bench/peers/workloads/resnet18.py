"""ResNet-18 (He et al., 2015) in plain PyTorch, as torchvision builds it: inplace ReLUs that two calls share."""

import torch
from torch import Tensor, nn

from .images import random_images as inputs
from .images import settle_batch_norm

__all__ = ["inputs", "load"]

_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Channels and stride of the first block of each stage of two."""


def load() -> nn.Module:
    """``[N, 3, 224, 224]`` → logits ``[N, 1000]``."""
    torch.manual_seed(0)
    return settle_batch_norm(_ResNet18())


class _ResNet18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        blocks: list[nn.Module] = []
        before = 64
        for channels, stride in _STAGES:
            blocks += [_BasicBlock(before, channels, stride), _BasicBlock(channels, channels, 1)]
            before = channels
        self.blocks = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(before, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.blocks(x))
        return self.fc(torch.flatten(x, 1))


class _BasicBlock(nn.Module):
    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
            if stride > 1
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)
