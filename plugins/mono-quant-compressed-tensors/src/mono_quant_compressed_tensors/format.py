"""From artifacts to folders and back."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.checkpoint import open_checkpoint
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api import JSON, Artifact, FolderFormat, LayerPlan, WeightSpec
from torch import Tensor

from mono_quant_compressed_tensors.config_json import quantization_of, read_config, write_config
from mono_quant_compressed_tensors.contents import Contents
from mono_quant_compressed_tensors.foreign import read_foreign
from mono_quant_compressed_tensors.groups import quantization_config
from mono_quant_compressed_tensors.refusals import Reader, refused
from mono_quant_compressed_tensors.weight import encode, is_packed, layout

__all__ = ["CompressedTensorsFormat"]

Inputs = Literal["error", "float"]

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"


class CompressedTensorsFormat(FolderFormat):
    """A folder with ``config.json`` and safetensors files in the layout of compressed-tensors.

    The manifest of mono_quant stands in the safetensors files, so that nothing is lost for `Quantizer.load`.

    Args:
        readers: what must be able to read the folder, beside the library compressed-tensors itself: ``"transformers"``
            and ``"vllm"``, or both; each takes less than that library, see the README.
        max_shard_bytes: tensors of more bytes than that are written to several files with an index.
        inputs: of folders that others wrote, what is done about inputs that are quantized as mono_quant has it not:
            ``"error"``, or ``"float"`` to read the weights alone.
    """

    def __init__(
        self,
        *,
        readers: Iterable[Reader] = ("transformers",),
        max_shard_bytes: int = 5_000_000_000,
        inputs: Inputs = "error",
    ) -> None:
        self.readers: tuple[Reader, ...] = tuple(readers)
        if isinstance(readers, str) or not set(self.readers) <= set(get_args(Reader)):
            raise ConfigurationError(f"readers is a list of some of {', '.join(get_args(Reader))}, got {readers!r}")
        if isinstance(max_shard_bytes, bool) or not isinstance(max_shard_bytes, int) or max_shard_bytes < 1:
            raise ConfigurationError(f"max_shard_bytes is a positive number of bytes, got {max_shard_bytes!r}")
        if inputs not in get_args(Inputs):
            raise ConfigurationError(f"inputs must be one of {', '.join(get_args(Inputs))}, got {inputs!r}")
        self.max_shard_bytes = max_shard_bytes
        self.inputs: Inputs = inputs

    def recognizes(self, path: Path) -> bool:
        """Whether its ``config.json`` says so."""
        try:
            return quantization_of(read_config(path)) is not None
        except ArtifactError:
            return False

    def refusals(self, layers: Mapping[str, LayerPlan], kept: Collection[str] = ()) -> Mapping[str, str]:
        """Layers that are no Linear, what readers do not know or take, and layers that they join but that differ."""
        return refused(layers, self.readers, kept)

    def layout(self, name: str, spec: WeightSpec) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        """The tensors of a weight whose layer has a float input: ``pack-quantized``, of float8 ``naive-quantized``."""
        return layout(name, spec, packed=is_packed(spec))

    def encode(self, name: str, stored: Mapping[str, Tensor], spec: WeightSpec) -> Mapping[str, Tensor]:
        """These tensors."""
        return encode(name, stored, spec, packed=is_packed(spec))

    def config(self, layers: Mapping[str, LayerPlan], kept: Mapping[str, tuple[int, ...]]) -> dict[str, JSON]:
        """``{"quantization_config": ...}``, all names in it exact; empty when every layer has ordinary floats."""
        quantization = quantization_config(layers, kept)
        return {"quantization_config": quantization} if quantization else {}

    def can_store(self, artifact: Artifact) -> list[str]:
        """Layers that are refused, and tensors that have no place in safetensors, or whose names are taken."""
        unsafe = SafetensorsFormat().can_store(artifact)
        contents = Contents.of(artifact)
        floats = {name.rpartition(".")[0] for name in contents.kept}
        found = refused(contents.layers, self.readers, floats)
        layers = [f"layer {name or '(model)'!r}: {why}" for name, why in found.items()]
        return [*unsafe, *layers, *contents.factors(), *(contents.clashes() if not layers else ())]

    def save(self, artifact: Artifact, path: Path) -> None:
        """Write the folder, which may exist: its ``config.json`` keeps what it says of the model.

        The safetensors files come first and ``config.json`` last: each is at every moment the old or the whole new one.
        """
        if reasons := self.can_store(artifact):
            raise ArtifactError(f"{path} cannot be written: {'; '.join(reasons)}")
        contents = Contents.of(artifact)
        said = read_config(path) if path.is_dir() else None
        is_new = _make_folder(path)
        try:
            contents.write(path / _WEIGHTS, self.max_shard_bytes)
            write_config(path, said, self.config(contents.layers, contents.kept))
        except BaseException:
            if is_new:
                _remove_if_empty(path)
            raise

    def load(self, path: Path) -> Artifact:
        """Read a folder of ours, or one of another's making in these formats."""
        if not path.is_dir():
            raise ArtifactError(f"{path} is not a folder")
        config = read_config(path)
        with open_checkpoint(_weights_in(path)) as checkpoint:
            quantization = quantization_of(config)
            if quantization is None or checkpoint.manifest() is not None:
                return Contents.read(checkpoint)
            return read_foreign(checkpoint, quantization, config or {}, float_inputs=self.inputs == "float")


def _weights_in(folder: Path) -> Path:
    """The file or index of the model, whatever other safetensors files are beside it; else what the folder has."""
    found = [folder / name for name in (_WEIGHTS, _INDEX) if (folder / name).exists()]
    return found[0] if len(found) == 1 else folder


def _make_folder(path: Path) -> bool:
    """Whether there was none."""
    try:
        path.mkdir()
    except FileExistsError:
        if path.is_dir():
            return False
        raise ArtifactError(f"{path} cannot be written: it is a file; give the path of a folder") from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error
    return True


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return
