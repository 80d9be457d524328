"""A model with all that a file must carry: a fold, ties, floats of every kind, buffers, an empty tensor."""

import torch
from small_models import FEATURES, norm
from torch import Tensor, nn


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3, padding=1)
        self.bn = norm(nn.BatchNorm1d(4))
        self.up, self.down = (nn.Linear(FEATURES, FEATURES) for _ in range(2))
        self.down.weight = self.up.weight
        self.table = nn.Embedding(5, FEATURES)
        self.head = nn.Linear(FEATURES, 5, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("halves", torch.ones(3, dtype=torch.float16))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("empty", torch.empty(0, 3))
        self.register_buffer("strided", torch.arange(6.0).reshape(2, 3).t())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.down(self.up(self.bn(self.conv(x))).relu()))


class WithLostBuffer(nn.Module):
    """Has a buffer that is not in its ``state_dict``."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(FEATURES, FEATURES)
        self.register_buffer("lost", torch.ones(FEATURES), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x * self.lost)


def inputs() -> list[Tensor]:
    return [torch.randn(3, 2, FEATURES) for _ in range(3)]


def same_bits(x: Tensor, y: Tensor) -> bool:
    bits = [t.detach().contiguous().flatten().view(torch.uint8) for t in (x, y)]
    return x.dtype == y.dtype and x.shape == y.shape and torch.equal(*bits)
