"""Small models that tell what was done with them."""

import torch
from torch import Tensor, nn

__all__ = ["Keywords", "Recorder", "Routed", "snapshot", "two_layers"]


def two_layers() -> nn.Sequential:
    """Inputs of 10 numbers; its first layer is ``"0"``, its last ``"2"``."""
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))


class Recorder(nn.Module):
    """Notes in which mode each of its calls ran."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(3)
        self.calls: list[tuple[bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((self.training or self.drop.training, torch.is_grad_enabled()))
        return self.norm(self.drop(self.layer(x)))


class Keywords(nn.Module):
    """Takes keyword arguments only and hands them on as such."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, *, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.layer(input=x * scale)


class Routed(nn.Module):
    """Its layer ``often`` runs always, its layer ``rarely`` only for large inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.often = nn.Linear(3, 3)
        self.rarely = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.often(x)
        return self.rarely(x) if x.max() > 100 else y


def snapshot(model: nn.Module) -> tuple[object, ...]:
    """All of a model that calibration must not change: modes, hooks and the bits of its tensors."""
    modules = [
        (name, module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    ]
    return modules, {name: tensor.tolist() for name, tensor in model.state_dict().items()}
