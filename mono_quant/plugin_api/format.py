"""Formats: a quantized model as a file, or a folder of files."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mono_quant.errors import ArtifactError
from mono_quant.plugin_api.artifact import JSON, Artifact
from mono_quant.plugin_api.plan import LayerPlan, WeightSpec
from mono_quant.plugin_api.source import Batch

__all__ = ["FolderFormat", "Format", "ProgramFormat"]


class Format(ABC):
    """Writes and reads artifacts."""

    def refusals(self, layers: Mapping[str, LayerPlan], kept: Collection[str] = ()) -> Mapping[str, str]:
        """Which layers this format cannot hold as they are planned: name → why, and what could be done.

        It is asked before any work, so that users can choose another scheme for these layers, or keep them in float;
        and again when algorithms have rewritten layers, or a target has changed the plan. `can_store` refuses what only
        shows later, in the values of tensors.

        Args:
            layers: to be quantized, by name.
            kept: names of layers that stay in float, as far as they are known.
        """
        del layers, kept
        return {}

    @abstractmethod
    def can_store(self, artifact: Artifact) -> list[str]:
        """The reasons why this format cannot hold the artifact; empty when it can."""

    @abstractmethod
    def save(self, artifact: Artifact, path: Path) -> None:
        """Write the file: at every moment ``path`` is the old file or the whole new one. Same input, same bytes.

        A new file has the permissions that the umask leaves it, one that is replaced keeps its own. All of this is what
        `mono_quant.plugin_api.replacing` does.

        Raises:
            ArtifactError: when it cannot be written; nothing is left behind then.
        """

    @abstractmethod
    def load(self, path: Path) -> Artifact:
        """Read a file without running anything that is in it.

        Raises:
            ArtifactError: when the file is not what it claims to be.
        """


class FolderFormat(Format):
    """A folder of safetensors files and a ``config.json``, in which the tensors of each weight stand by themselves.

    Since each weight is written by itself, so can a checkpoint be that does not fit in memory. `save` and `load` are
    given the path of the folder.
    """

    @abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Whether a folder is of this format; it may look at small files in it."""

    @abstractmethod
    def layout(self, name: str, spec: WeightSpec) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        """The tensors that a weight becomes: name in the file → dtype and shape.

        Args:
            name: of the float parameter in its model, ``"layers.0.fc.weight"``.
            spec: how it is quantized; nothing that `refusals` names.
        """

    @abstractmethod
    def encode(self, name: str, stored: Mapping[str, Tensor], spec: WeightSpec) -> Mapping[str, Tensor]:
        """These tensors, of the stored ones by suffix: ``""``, ``"_scale"``, ``"_zero_point"``; see `WeightSpec`."""

    @abstractmethod
    def config(self, layers: Mapping[str, LayerPlan], kept: Mapping[str, tuple[int, ...]]) -> dict[str, JSON]:
        """What ``config.json`` says of the quantization, to be added to what it says of the model.

        Args:
            layers: the quantized layers, by name.
            kept: weights that stay in float, parameter name → shape.
        """


class ProgramFormat(Format):
    """A model as a program with its weights, which runs without the model's class. It is made by running the model.

    `load` gives the tensors of the model and the manifest, where the file has them: with the model's class the
    quantized model can then be loaded from it as from any other file.
    """

    def save(self, artifact: Artifact, path: Path) -> None:
        """Refused: tensors are no program."""
        del artifact
        raise ArtifactError(
            f"{path} would be a program, which is made by running the model on a batch: use result.save(path), or "
            "save_model(model, path, example=batch)"
        )

    @abstractmethod
    def save_program(self, model: nn.Module, example: Batch, artifact: Artifact, path: Path) -> None:
        """Write the file, as `save` does.

        Args:
            model: a quantized model in eval mode, which stays as it is.
            example: a real batch.
            artifact: of the model; its manifest goes along.
            path: the file.

        Raises:
            ArtifactError: when the model cannot become a program, or the file cannot be written.
        """

    @abstractmethod
    def load_program(self, path: Path) -> nn.Module:
        """A module that is called as the model was and gives what it gave, for inference.

        Raises:
            ArtifactError: when the file is not what it claims to be.
        """
