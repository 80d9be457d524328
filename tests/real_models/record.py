"""What a test needs of a real model, whichever model it is."""

from importlib import import_module
from typing import Protocol, TypeAlias, cast

import attrs
import torch
from torch import nn

from .assets import missing, require

__all__ = ["ModelFile", "ModelInput", "RealModel", "run"]

# A model's one argument, or its keyword arguments.
ModelInput: TypeAlias = torch.Tensor | dict[str, torch.Tensor]


class ModelFile(Protocol):
    """The functions of a file that describes one model."""

    def load(self) -> nn.Module:
        """The pretrained model."""

    def calibration(self) -> list[ModelInput]:
        """16 to 32 batches that share nothing with what `score` uses."""

    def score(self, model: nn.Module, float_model: nn.Module) -> dict[str, float]:
        """Task figures of `model`, and how far its outputs are from those of `float_model`."""

    def example(self, batch_size: int) -> ModelInput:
        """One batch of the size to measure latency with."""

    def held_back(self) -> ModelInput:
        """One batch that shares nothing with `calibration`."""


@attrs.frozen
class RealModel:
    """A pretrained model with the data to calibrate and to score it.

    The model's own file, ``<name>.py`` beside this one, is imported on first use, since it imports heavy packages.
    Every method raises `MissingAssetError`, naming the requirements, where they are not installed.
    """

    name: str
    requirements: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The requirements that are not installed."""
        return missing(self.requirements)

    def load(self) -> nn.Module:
        """The pretrained model in eval mode, a new one at each call."""
        return self._file.load().eval()

    def calibration(self) -> list[ModelInput]:
        """16 to 32 batches that share nothing with what `score` uses."""
        return self._file.calibration()

    def score(self, model: nn.Module, float_model: nn.Module) -> dict[str, float]:
        """Task figures of `model`, and how far its outputs are from those of `float_model`.

        Which figures, in which units, stands in the docstring of the model's own file.
        """
        with torch.no_grad():
            return self._file.score(model, float_model)

    def example(self, batch_size: int) -> ModelInput:
        """One batch to measure latency with."""
        return self._file.example(batch_size)

    def held_back(self) -> ModelInput:
        """One batch that shares nothing with `calibration`, to compare outputs on."""
        return self._file.held_back()

    @property
    def _file(self) -> ModelFile:
        require(self.requirements, owner=f"the real model {self.name!r}")
        return cast("ModelFile", import_module(f".{self.name}", __package__))


def run(model: nn.Module, batch: ModelInput) -> object:
    """Call the model with a batch as its one argument, or as its keyword arguments."""
    return model(**batch) if isinstance(batch, dict) else model(batch)
