"""Saving and loading tensors by the suffix of the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mono_quant._plugins.formats import format_for
from mono_quant._plugins.manager import PluginManager
from mono_quant.calibration.data import as_batch
from mono_quant.component import Wanted
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.artifact import expand_ties, to_artifact
from mono_quant.io.naming import naming
from mono_quant.io.pytorch_format import PytorchFormat
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api.artifact import Artifact
from mono_quant.plugin_api.format import Format, ProgramFormat
from mono_quant.plugin_api.source import Batch

__all__ = [
    "load_model",
    "load_program",
    "load_pytorch",
    "load_safetensors",
    "save_model",
    "save_pytorch",
    "save_safetensors",
    "write",
    "write_artifact",
    "write_program",
]


def save_model(
    model: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    format: Wanted | None = None,  # noqa: A002 - the word that users know
    *,
    example: Any | None = None,  # noqa: ANN401 - a batch
) -> None:
    """Write a model or a ``state_dict`` in the format of the suffix: ``.safetensors``, ``.pt``, ``.pth`` or a plugin's.

    A quantized model takes its manifest along, so that `Quantizer.load` can rebuild it.

    Args:
        model: what is written.
        path: where to.
        format: name of a format, for one that no suffix chooses.
        example: a batch, as the items of calibration data are, for a format of programs, as ``.pt2`` is; others need
            none.

    Raises:
        ArtifactError: when it cannot be written.
        CalibrationError: when the example is no batch.
    """
    chosen = format_for(path, PluginManager.with_plugins(), format)
    if isinstance(chosen, ProgramFormat) and isinstance(model, nn.Module) and example is not None:
        write_program(chosen, model, as_batch(example, "the example"), path)
    else:
        write(chosen, model, path)


def load_model(
    path: str | Path,
    format: Wanted | None = None,  # noqa: A002
) -> dict[str, Tensor]:
    """The ``state_dict`` in a file, for ``load_state_dict`` of the model that was saved; ``format`` as in `save_model`.

    Raises:
        ArtifactError: when it cannot be read.
    """
    return _read(format_for(path, PluginManager.with_plugins(), format), path)


def save_safetensors(model: nn.Module | Mapping[str, Tensor], path: str | Path) -> None:
    """`save_model` as ``.safetensors``, whatever the file is called."""
    write(SafetensorsFormat(), model, path)


def load_safetensors(path: str | Path) -> dict[str, Tensor]:
    """`load_model` of a ``.safetensors`` file, whatever it is called."""
    return _read(SafetensorsFormat(), path)


def save_pytorch(model: nn.Module | Mapping[str, Tensor], path: str | Path) -> None:
    """`save_model` as ``.pt``: tensors and JSON text, no code."""
    write(PytorchFormat(), model, path)


def load_pytorch(path: str | Path) -> dict[str, Tensor]:
    """`load_model` of a ``.pt`` file, with ``weights_only=True``."""
    return _read(PytorchFormat(), path)


def write(format: Format, model: nn.Module | Mapping[str, Tensor], path: str | Path) -> None:  # noqa: A002
    """Write a model in a given format.

    Raises:
        ArtifactError: when the format cannot hold it, or the file cannot be written.
    """
    with naming(path):
        write_artifact(format, to_artifact(model), path)


def write_program(format: ProgramFormat, model: nn.Module, example: Batch, path: str | Path) -> None:  # noqa: A002
    """Write a model in a given format of programs.

    Raises:
        ArtifactError: when the model cannot become a program, or the file cannot be written.
    """
    with naming(path):
        artifact = to_artifact(model)
        _refuse_what_cannot_be_stored(format, artifact, path)
        format.save_program(model, example, artifact, Path(path))


def load_program(format: Format, path: str | Path) -> nn.Module:  # noqa: A002
    """The program in a file.

    Raises:
        ArtifactError: when the file is not what it claims to be.
        ConfigurationError: when files of this format hold tensors.
    """
    if not isinstance(format, ProgramFormat):
        raise ConfigurationError(f"{path} holds tensors: give the model's class, or a function that builds one, model=")
    with naming(path):
        return format.load_program(Path(path))


def write_artifact(format: Format, artifact: Artifact, path: str | Path) -> None:  # noqa: A002
    """Write tensors and manifest in a given format.

    Raises:
        ArtifactError: when the format cannot hold them, or the file cannot be written.
    """
    _refuse_what_cannot_be_stored(format, artifact, path)
    format.save(artifact, Path(path))


def _refuse_what_cannot_be_stored(format: Format, artifact: Artifact, path: str | Path) -> None:  # noqa: A002
    if reasons := format.can_store(artifact):
        raise ArtifactError(f"{path} cannot be written: {'; '.join(reasons)}")


def _read(format: Format, path: str | Path) -> dict[str, Tensor]:  # noqa: A002
    with naming(path):
        return expand_ties(format.load(Path(path)))
