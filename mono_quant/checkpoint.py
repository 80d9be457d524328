"""Quantizing weights without a model: a ``state_dict`` or files, one tensor at a time."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from mono_quant._plugins.components import Components
from mono_quant._size import size_text
from mono_quant.checkpoint_planning import plan_checkpoint, shapes_of
from mono_quant.config import QuantizationConfig
from mono_quant.core.blocks import row_blocks
from mono_quant.core.checkpoint_plan import layer_and_parameter
from mono_quant.core.encoding import channels_of, decode, decode_channels
from mono_quant.core.sqnr import energy, ratio_db
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.artifact import expand_ties
from mono_quant.io.checkpoint import TensorInfo, open_checkpoint, write_checkpoint
from mono_quant.io.files import write_artifact
from mono_quant.io.json_text import dump_object
from mono_quant.io.manifest import read_manifest, write_manifest
from mono_quant.io.naming import naming
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.io.stored_weights import encode_weight, refuse_misfits, tensors_beside, weight_specs
from mono_quant.plugin_api import Artifact, Keep, ProgramFormat, WeightSpec

__all__ = ["QuantizedCheckpoint", "Source", "dequantize_checkpoint"]

Source = str | Path | Mapping[str, Tensor]
"""A ``state_dict``, or the path of a file, a sharded index, or the folder of one."""

_MB = 2**20


class QuantizedCheckpoint:
    """What became of the tensors of a checkpoint. They are quantized while they are written: none is kept in memory.

    >>> import torch
    >>> from mono_quant import Quantizer
    >>> checkpoint = Quantizer("int8-weight-only").quantize_checkpoint({"fc.weight": torch.eye(4)})
    >>> {name: tensor.dtype for name, tensor in checkpoint.state_dict().items()}
    {'fc.weight': torch.int8, 'fc.weight_scale': torch.float32}

    Attributes:
        plan: the ledger: each layer with quantized weights, each tensor that stays as it is, and why.
        original_size_mb: MB (2^20 bytes) of all tensors before.
        quantized_size_mb: the same after.
        layer_sqnr_db: SQNR of each layer's weights in dB; empty until the tensors have been quantized.
    """

    def __init__(self, source: Source, config: QuantizationConfig, components: Components) -> None:
        self._source = source
        self._config = config
        self._components = components
        with open_checkpoint(source) as checkpoint:
            self._planned = dict(checkpoint.infos), dict(checkpoint.ties)
            self._outcome = plan_checkpoint(checkpoint, components)
        self.plan = self._outcome.plan
        self.original_size_mb = self._outcome.original_size_mb
        self.quantized_size_mb = self._outcome.quantized_size_mb
        self.layer_sqnr_db: dict[str, float] = {}

    @property
    def compression_ratio(self) -> float:
        """How many times smaller the tensors are."""
        return self.original_size_mb / self.quantized_size_mb

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors of the quantized checkpoint one after another, each shared one once.

        Raises:
            ArtifactError: when a tensor cannot be read, or the source is not what it was when it was planned.
            UnsupportedLayerError: when a weight is not finite.
        """
        energies: dict[str, tuple[float, float]] = {}
        with open_checkpoint(self._source) as checkpoint:
            if (dict(checkpoint.infos), dict(checkpoint.ties)) != self._planned:
                raise ArtifactError(f"{checkpoint.source} changed since it was planned: call quantize_checkpoint again")
            for name in checkpoint:
                if name in checkpoint.ties:
                    continue
                spec = self._outcome.specs.get(name)
                if spec is None:
                    yield name, checkpoint.read(name)
                    continue
                weight = checkpoint.read(name)
                stored = encode_weight(name, weight, spec)
                layer, _ = layer_and_parameter(name)
                signal, noise = energies.get(layer, (0.0, 0.0))
                more_signal, more_noise = _energies(weight, stored, spec)
                energies[layer] = (signal + more_signal, noise + more_noise)
                del weight
                for suffix in list(stored):
                    yield name + suffix, stored.pop(suffix)
        self.layer_sqnr_db = {layer: ratio_db(*pair) for layer, pair in energies.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors of the quantized checkpoint, shared ones under all of their names."""
        # Those that stay as they are would be the caller's own.
        tensors = {name: tensor if name in self._outcome.specs else tensor.clone() for name, tensor in self.tensors()}
        return tensors | {name: tensors[kept] for name, kept in self._outcome.ties.items()}

    def save(self, path: str | Path, *, max_shard_bytes: int | None = None) -> None:
        """Write the quantized checkpoint; ``.safetensors`` is written as the tensors come.

        `Quantizer.load` reads the file into a model of the class that the checkpoint belongs to.

        Args:
            path: its suffix chooses the format.
            max_shard_bytes: for ``.safetensors``: write several files and an index when the tensors are more.

        Raises:
            ArtifactError: when a tensor cannot be read, the source has changed since it was planned, the format cannot
                hold the tensors, or the file cannot be written.
            ConfigurationError: when ``max_shard_bytes`` is given for another format, or is not positive.
            UnsupportedLayerError: when a weight is not finite.
        """
        manifest = write_manifest(self._outcome.manifest(self._config, self._components.versions))
        chosen = self._components.format_to_save(path)
        if type(chosen) is SafetensorsFormat:  # a plugin may derive from it
            metadata = {"format": "pt", "mono_quant": dump_object(manifest)}
            write_checkpoint(path, self._outcome.after, self.tensors(), metadata, max_shard_bytes)
            return
        if max_shard_bytes is not None:
            raise ConfigurationError(f"max_shard_bytes is for .safetensors files; {path} would be one file")
        if isinstance(chosen, ProgramFormat):
            raise ArtifactError(
                f"{path} would be a program, which is made by running a model, and here are tensors only: quantize the "
                "model, with Quantizer.quantize or --model, or give a path that ends in .safetensors"
            )
        with naming(path):
            write_artifact(chosen, Artifact(dict(self.tensors()), manifest), path)

    def report(self) -> str:
        """A few lines for people."""
        kept = [entry for entry in self.plan.entries if isinstance(entry.decision, Keep)]
        lines = [
            f"quantized  {len(self._outcome.specs)} tensors of {len(self.plan.layers)} layers",
            f"kept       {len(kept)} tensors, {size_text(sum(entry.parameter_bytes for entry in kept) / _MB)}",
            (
                f"size       {size_text(self.original_size_mb)} -> {size_text(self.quantized_size_mb)}, "
                f"{self.compression_ratio:.2f} times smaller"
            ),
        ]
        if self.layer_sqnr_db:
            worst, lowest = min(self.layer_sqnr_db.items(), key=lambda item: item[1])
            lines.append(f"SQNR       weights of the lowest layer {worst or '(model)'} {lowest:.1f} dB")
        return "\n".join(lines)

    __str__ = report


def dequantize_checkpoint(source: str | Path, path: str | Path) -> None:
    """Write the float checkpoint that a quantized file stands for, one tensor at a time; no model is needed.

    The weights have the names, shapes and dtypes that they had; what belongs to quantized inputs is left out.

    Args:
        source: a quantized ``.safetensors`` or ``.pt`` file, or the index of several.
        path: a ``.safetensors`` file to write.

    Raises:
        ArtifactError: when the source is not a quantized file, its tensors are not those of its manifest, or a file
            cannot be read or written.
    """
    with open_checkpoint(source) as checkpoint:
        data = checkpoint.manifest()
        if data is None or "layers" not in data:
            raise ArtifactError(f"{source} is not a quantized file of mono_quant: it has no manifest")
        with naming(source):
            manifest = read_manifest(data)
            named = expand_ties(Artifact(shapes_of(checkpoint.infos), data))
            specs = weight_specs(manifest.layers)

            def read(name: str) -> Tensor:
                return checkpoint.read(manifest.ties.get(name, name))

            refuse_misfits(specs, named, read)
        beside = tensors_beside(manifest.layers)
        infos = {name: TensorInfo(specs[name].dequantized_dtype, specs[name].shape) for name in specs}
        infos |= {name: TensorInfo.of(shape) for name, shape in named.items() if name not in beside | set(specs)}
        ties = {name: kept for name, kept in manifest.ties.items() if name in infos}
        wanted = {name: info for name, info in infos.items() if name not in ties}

        def tensors() -> Iterator[tuple[str, Tensor]]:
            for name, info in wanted.items():
                if name not in specs:
                    yield name, read(name)
                    continue
                stored = {suffix: read(name + suffix) for suffix in specs[name].layout}
                yield name, decode(stored, specs[name]).to(info.dtype)

        metadata = {"format": "pt"} | ({"mono_quant": dump_object({"ties": dict(ties)})} if ties else {})
        write_checkpoint(path, wanted, tensors(), metadata)


def _energies(weight: Tensor, stored: Mapping[str, Tensor], spec: WeightSpec) -> tuple[float, float]:
    floats = channels_of(weight, spec)
    parts = [energy(floats[block], decode_channels(stored, spec, block)) for block in row_blocks(floats)]
    return sum(signal for signal, _ in parts), sum(noise for _, noise in parts)
