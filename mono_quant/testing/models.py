"""Small models whose plans have something to decide."""

import torch
from torch import Tensor, nn

from mono_quant.testing.data import seeded

__all__ = ["FEATURES", "SmallNet", "batches", "small_net"]

FEATURES = 12
_CHANNELS, _LENGTH = 3, 4


class SmallNet(nn.Module):
    """A convolution with a BatchNorm, a Linear that is called twice, a residual, and a head: ``(N, 12) → (N, 5)``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(_CHANNELS, _CHANNELS, 3, padding=1)
        self.norm = nn.BatchNorm1d(_CHANNELS)
        self.mix = nn.Linear(FEATURES, FEATURES)
        self.head = nn.Linear(FEATURES, 5)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 12) → (N, 5)``."""
        seen = self.norm(self.conv(x.reshape(-1, _CHANNELS, _LENGTH))).relu().flatten(1)
        mixed = self.mix(self.mix(seen).relu()) + x
        logits: Tensor = self.head(mixed)
        return logits


def small_net() -> SmallNet:
    """The model with fixed weights and statistics, in eval mode."""
    model = SmallNet()
    generator = seeded(7)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.4)
        model.norm.running_var.abs_().add_(0.5)  # type: ignore[union-attr]
    return model.eval()


def batches(count: int = 4) -> list[Tensor]:
    """Inputs of the model, ``(8, 12)`` each."""
    return [torch.randn(8, FEATURES, generator=seeded(number)) for number in range(count)]
