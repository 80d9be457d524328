"""Models and data that tests name on a command line, the same at every call."""

import sys
from collections.abc import Iterator

import torch
from small_models import ConvNet
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

FEATURES = 8


def net() -> nn.Module:
    """Two layers, one of them with a norm that is folded into it."""
    torch.manual_seed(3)
    return ConvNet()


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(4, 3, 8, 8, generator=generator) for _ in range(3)]


def mlp() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, FEATURES))


def rows() -> list[Tensor]:
    generator = torch.Generator().manual_seed(6)
    return [torch.randn(6, FEATURES, generator=generator) for _ in range(3)]


def many_rows() -> list[Tensor]:
    """Enough for a progress bar."""
    return rows() * 20


def noisy() -> nn.Module:
    """Prints where it should not."""
    sys.stdout.write("loading the model...\n")
    return mlp()


def noisy_rows() -> list[Tensor]:
    sys.stdout.write("loading the data...\n")
    return rows()


def first_output(model: nn.Module) -> float:
    """A figure of a model."""
    with torch.no_grad():
        return float(model(images()[0]).flatten()[0])


def failing_metric(model: nn.Module) -> float:
    raise ValueError(f"no figure of a {type(model).__name__}")


def empty() -> list[Tensor]:
    return []


def wide_rows() -> list[Tensor]:
    """Do not fit the model."""
    return [torch.randn(6, FEATURES + 1)]


def failing() -> nn.Module:
    raise RuntimeError("no such checkpoint")


def failing_rows() -> list[Tensor]:
    raise KeyError("no such table")


def rows_that_end_badly() -> Iterator[Tensor]:
    yield from rows()
    raise OSError("the disk went away")


class FailingSet(Dataset):
    """Data that a DataLoader cannot read."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Tensor:
        raise OSError("no such picture")


def loader() -> DataLoader:
    return DataLoader(FailingSet())


class FailingForward(nn.Module):
    """Raises when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.missing_layer(x)


class Masked(nn.Module):
    """Takes keyword arguments, one of which is the same for all rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.layer = nn.Linear(FEATURES, FEATURES)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.layer(x * mask)


def masked_batches() -> list[dict[str, Tensor]]:
    return [{"x": batch, "mask": torch.ones(FEATURES)} for batch in rows()]


number = 3
"""Neither a model nor data."""


class BrokenAttributes(nn.Module):
    """Fails in its own code when its layers are walked through."""

    def named_modules(self, *_: object, **__: object) -> None:
        raise ZeroDivisionError
