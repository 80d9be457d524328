"""Models in eager mode whose layers' outputs go many ways, as models of users do."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NETS", "images"]


class _Net(nn.Module):
    """Two convolutions of the same shape, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)

    def classify(self, x: Tensor) -> Tensor:
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Residual(_Net):
    """A block with in-place operations and one ReLU for all."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.first(x)))
        y = self.second(x)
        y += x
        return self.classify(self.relu(y))


class Chained(_Net):
    """Nothing but activations and pooling between the layers."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu6(self.first(x)), 2)
        return self.classify(functional.hardswish(self.second(functional.dropout(x, training=self.training))))


class BeforeAndAfter(_Net):
    """An output is used with and without its activation."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.classify(self.second(torch.relu(x)) + x)


class Aliased(_Net):
    """A view sees what is written into the output later; what was pooled before does not."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        view = x.view(len(x), -1)
        pooled = functional.max_pool2d(x, 1)
        x.mul_(-1)
        y = self.second(x)
        pooled_too = functional.max_pool2d(y, 1)
        y.relu_()
        y.add_(1.0)
        return self.classify(y) + view.mean() + self.classify(pooled + pooled_too)


class Shared(_Net):
    """Functions that give their argument back, and pools of one element, which give a copy."""

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first(x))
        same = functional.dropout(y, training=self.training)
        same += 1
        copied = functional.max_pool2d(y, 1)
        copied[:] = 7
        return self.classify(self.second(y) + copied)


class Reshaped(_Net):
    """Its shape is changed in place."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y.unsqueeze_(1)
        batch, one = y.shape[:2]
        y = y.reshape(batch * one, *y.shape[2:])
        z = self.second(y)
        z.transpose_(2, 3)
        return self.classify(self.second(z))


class WithParameters(_Net):
    """Parameters in between, which have gradients, and sums with tensors of another layout."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.linspace(0.5, 2, 8).reshape(8, 1, 1))
        self.position = nn.Parameter(torch.randn(1, 8, 16, 16), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.first(x) * self.gamma, [3], [1], padding=1)
        y = self.position + self.second(x)
        out = torch.zeros(*y.shape[:3], 2 * y.shape[3])[..., ::2]
        torch.add(self.second(x), y, out=out)
        return self.classify(out) + y.sum(1).mean()


class InFloat(_Net):
    """Operations that need plain tensors."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = torch.cat([x[:, 4:], x[:, :4]], dim=1).flip(-1) * x.std()
        x = self.second(x)
        if float(x.mean()) > 1e9:
            return x
        return self.classify(functional.interpolate(x, scale_factor=2.0))


class Gated(_Net):
    """Sigmoid gates, with which channels are scaled, and a SiLU written out."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x * torch.sigmoid(x)
        y = self.second(functional.silu(x))
        gate = functional.hardsigmoid(functional.adaptive_avg_pool2d(y, 1))
        return self.classify(y * gate - x / 2)


class SeveralOutputs(_Net):
    """Outputs of layers leave the model, in a mapping."""

    def forward(self, x: Tensor) -> dict[str, object]:
        first = self.first(x)
        second = self.second(functional.relu(first))
        return {"features": [first, (second,)], "classes": self.classify(second), "sum": second + 1}


class Perceptron(nn.Module):
    """Linear layers on sequences, with both kinds of GELU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Linear(3, 16), nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        x = self.second(functional.gelu(self.first(x)))
        return self.third(functional.gelu(x, approximate="tanh")) + self.third(torch.tanh(x))


NETS: dict[str, type[nn.Module]] = {
    net.__name__: net
    for net in (
        Residual,
        Chained,
        BeforeAndAfter,
        Aliased,
        Shared,
        Reshaped,
        WithParameters,
        InFloat,
        Gated,
        SeveralOutputs,
        Perceptron,
    )
}


def images(seed: int = 0, count: int = 4) -> Tensor:
    """``[count, 3, 16, 16]``."""
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
