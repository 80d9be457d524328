"""Quantizing weights without a model: a ``state_dict`` or files, one tensor at a time."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mono_quant._plugins.components import Components
from mono_quant._size import size_text
from mono_quant.checkpoint_selection import TensorSelection
from mono_quant.config import QuantizationConfig
from mono_quant.core.blocks import row_blocks
from mono_quant.core.checkpoint_plan import joined, layer_and_parameter, plan_tensors
from mono_quant.core.encoding import channels_of, decode, decode_channels, encode
from mono_quant.core.schemes.layers import all_finite
from mono_quant.core.sqnr import energy, ratio_db
from mono_quant.errors import ArtifactError, ConfigurationError, UnsupportedLayerError
from mono_quant.io.artifact import expand_ties
from mono_quant.io.checkpoint import Checkpoint, TensorInfo, open_checkpoint, write_checkpoint
from mono_quant.io.files import write_artifact
from mono_quant.io.json_text import dump_object
from mono_quant.io.manifest import Manifest, read_manifest, write_manifest
from mono_quant.io.naming import naming
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.io.stored_weights import refuse_misfits, tensors_beside, weight_specs
from mono_quant.plugin_api import Artifact, Keep, Plan, ProgramFormat, WeightSpec

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
            infos, ties = _names_of(checkpoint)
            self.plan = _make_plan(infos, ties, config, components, source=checkpoint.source)
        self._specs = weight_specs(self.plan.layers)
        self._infos, self._ties = _after(infos, ties, self._specs)
        self.original_size_mb = sum(info.nbytes for name, info in infos.items() if name not in ties) / _MB
        self.quantized_size_mb = sum(info.nbytes for info in self._infos.values()) / _MB
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
                spec = self._specs.get(name)
                if spec is None:
                    yield name, checkpoint.read(name)
                    continue
                weight = checkpoint.read(name)
                _refuse_not_finite(name, weight)
                stored = encode(weight, spec)
                if not spec.is_scaled and not all_finite(stored[""]):
                    raise UnsupportedLayerError(f"tensor {name!r} has values beyond {spec.dtype.name}; use bfloat16")
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
        tensors = {name: tensor if name in self._specs else tensor.clone() for name, tensor in self.tensors()}
        return tensors | {name: tensors[kept] for name, kept in self._ties.items()}

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
        manifest = write_manifest(self._manifest())
        chosen = self._components.format_for(path)
        if isinstance(chosen, SafetensorsFormat):
            metadata = {"format": "pt", "mono_quant": dump_object(manifest)}
            write_checkpoint(path, self._infos, self.tensors(), metadata, max_shard_bytes)
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
            f"quantized  {len(self._specs)} tensors of {len(self.plan.layers)} layers",
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

    def _manifest(self) -> Manifest:
        return Manifest(
            config=self._config,
            layers=self.plan.layers,
            kept=self.plan.kept,
            rewrites=(),
            ties=self._ties,
            versions=self._components.versions,
            metrics={
                "original_size_mb": self.original_size_mb,
                "quantized_size_mb": self.quantized_size_mb,
                "compression_ratio": self.compression_ratio,
                "sqnr_db": None,
            },
            layer_sqnr_db={},
            calibration=None,
        )


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
            named = expand_ties(Artifact(_shapes(checkpoint.infos), data))
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


def _names_of(checkpoint: Checkpoint) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """All names that its tensors have, and further name → first name; a file of ours tells those in its manifest.

    Raises:
        ArtifactError: when the manifest does not fit the tensors.
        ConfigurationError: when it is that of a quantized model.
    """
    manifest = checkpoint.manifest()
    if manifest is not None and "layers" in manifest:
        raise ConfigurationError(f"{checkpoint.source} is quantized already: quantize the float weights in one run")
    named = expand_ties(Artifact(_shapes(checkpoint.infos), manifest))
    infos = {name: TensorInfo.of(shape) for name, shape in named.items()}
    first = {id(shape): name for name, shape in reversed(named.items())}
    return infos, {**checkpoint.ties, **{name: first[id(t)] for name, t in named.items() if first[id(t)] != name}}


def _shapes(infos: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
    return {name: torch.empty(info.shape, dtype=info.dtype, device="meta") for name, info in infos.items()}


def _make_plan(
    infos: Mapping[str, TensorInfo],
    ties: Mapping[str, str],
    config: QuantizationConfig,
    components: Components,
    *,
    source: str,
) -> Plan:
    """The ledger, from names, dtypes and shapes alone.

    Raises:
        ConfigurationError: when a pattern is of a class, or matches nothing, or nothing would be quantized.
    """
    chosen = TensorSelection(config)
    weights = Counter[str]()
    for name, info in infos.items():
        weights[layer_and_parameter(name)[0]] += math.prod(info.shape) if len(info.shape) > 1 else 0
    nothing = nn.Module()

    def decide(name: str, tensor: Tensor) -> tuple[str, WeightSpec] | Keep:
        layer, _ = layer_and_parameter(name)
        if reason := chosen.why_kept(layer, weights[layer]) or _why_a_norm(layer, tensor, infos):
            return Keep(reason)
        spec = components.scheme_for(layer, nothing).plan_tensor(name, tensor)
        if isinstance(spec, Keep):
            return spec
        if clash := [name + suffix for suffix in spec.layout if suffix and name + suffix in infos]:
            return Keep(f"the checkpoint has a tensor {clash[0]!r} already")
        return components.scheme_name_for(layer, nothing), spec

    plan = plan_tensors(_shapes(infos), ties, decide)
    if chosen.unused:
        raise ConfigurationError(f"patterns {list(chosen.unused)} match no layer of {source}")
    if not plan.layers:
        reasons = list(dict.fromkeys(plan.kept.values()))
        raise ConfigurationError(
            f"nothing of {source} would be quantized: {'; '.join(reasons[:5]) or 'it has no tensors'}"
        )
    return plan


def _why_a_norm(layer: str, tensor: Tensor, infos: Mapping[str, TensorInfo]) -> str:
    """Why a weight of several axes is taken for that of a norm; empty when it is not. Others are no weights anyway."""
    if tensor.ndim <= 1:
        return ""
    if "norm" in layer.rpartition(".")[2].lower():
        return "its layer is called a norm"
    bias = infos.get(joined(layer, "bias"))
    is_like_it = bias is not None and bias.shape == tuple(tensor.shape)
    return "its layer has a bias of the same shape, as a norm has" if is_like_it else ""


def _after(
    infos: Mapping[str, TensorInfo], ties: Mapping[str, str], specs: Mapping[str, WeightSpec]
) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """What the quantized checkpoint will hold, and which of its names share a tensor."""
    after, after_ties = {}, {}
    for name, info in infos.items():
        layout = specs[name].layout if name in specs else {"": (info.dtype, info.shape)}
        for suffix, (dtype, shape) in layout.items():
            if name in ties:
                after_ties[name + suffix] = ties[name] + suffix
            else:
                after[name + suffix] = TensorInfo(dtype, shape)
    return after, after_ties


def _energies(weight: Tensor, stored: Mapping[str, Tensor], spec: WeightSpec) -> tuple[float, float]:
    floats = channels_of(weight, spec)
    parts = [energy(floats[block], decode_channels(stored, spec, block)) for block in row_blocks(floats)]
    return sum(signal for signal, _ in parts), sum(noise for _, noise in parts)


def _refuse_not_finite(name: str, weight: Tensor) -> None:
    if not all_finite(weight):
        raise UnsupportedLayerError(f"tensor {name!r} has values that are not finite: exclude its layer")
