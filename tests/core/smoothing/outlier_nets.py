"""Small nets whose activations have channels far larger than the others, as those of transformers have."""

import torch
from torch import Tensor, nn

WIDTH = 16


class RootMeanSquareNorm(nn.Module):
    """A norm that is no class of torch's: known only by what it computes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class ShiftedNorm(RootMeanSquareNorm):
    """One whose output does not scale with its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return (1 + self.weight) * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    """The norm is read by two layers only; what these give is read by a third."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.up, self.gate, self.down = nn.Linear(WIDTH, 24), nn.Linear(WIDTH, 24), nn.Linear(24, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.down(torch.sigmoid(self.gate(y)) * self.up(y))


class PostNorm(Block):
    """The norm is read past the layers too, as in BERT."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return y + self.down(torch.sigmoid(self.gate(y)) * self.up(y))


def outliers(net: nn.Module) -> nn.Module:
    """The net, two channels of whose norm are 60 times the others, in eval mode."""
    torch.manual_seed(0)
    with torch.no_grad():
        net.norm.weight.uniform_(0.5, 1.5)
        net.norm.weight[3] *= 60
        net.norm.weight[8] *= -60
        for layer in (net.up, net.gate):
            layer.weight.normal_(std=0.2)
            layer.weight[:, [3, 8]] /= 60
    return net.eval()


def rows(count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(5, 7, WIDTH, generator=generator) for _ in range(count)]
