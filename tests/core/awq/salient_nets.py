"""Small nets in which a few input channels are large and the weights that read them are not."""

import torch
from torch import Tensor, nn

__all__ = ["WIDTH", "Block", "Chain", "PostNorm", "rows", "salient"]

WIDTH = 32


class Block(nn.Module):
    """The norm is read by two layers only; what these give is read by a third, not as a function of one of them."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = norm or nn.LayerNorm(WIDTH)
        self.up, self.gate, self.down = nn.Linear(WIDTH, 48), nn.Linear(WIDTH, 48), nn.Linear(48, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.down(torch.sigmoid(self.gate(y)) * self.up(y))


class PostNorm(Block):
    """The norm is read past the layers too."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return y + self.down(torch.sigmoid(self.gate(y)) * self.up(y))


class Chain(nn.Module):
    """A layer whose output another alone reads, through a ReLU; a few of its rows are large."""

    def __init__(self, before: nn.Module | None = None, between: nn.Module | None = None) -> None:
        super().__init__()
        self.first = before or nn.Linear(WIDTH, 48)
        self.between, self.last = between or nn.ReLU(), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)))


def salient(net: nn.Module) -> nn.Module:
    """The net with two channels that are 60 times the others, in eval mode."""
    torch.manual_seed(0)
    with torch.no_grad():
        if isinstance(net, Block):
            net.norm.weight.uniform_(0.5, 1.5)
            net.norm.weight[3] *= 60
            net.norm.weight[8] *= -60
        else:
            net.first.weight[[3, 8]] *= 60
    return net.eval()


def rows(count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(5, 7, WIDTH, generator=generator) for _ in range(count)]
