"""What the safetensors files of a folder hold: the tensors of each layer in the layout, all others as they are."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import attrs
import torch
from mono_quant.core.checkpoint_plan import joined
from mono_quant.core.qtypes import INT8
from mono_quant.errors import ArtifactError
from mono_quant.io.checkpoint import Checkpoint, TensorInfo, write_checkpoint
from mono_quant.io.json_text import dump_object
from mono_quant.io.manifest import read_manifest
from mono_quant.plugin_api import JSON, Artifact, LayerPlan, WeightSpec
from torch import Tensor

from mono_quant_compressed_tensors.weight import decode, encode, is_packed, layout

__all__ = ["Contents"]

_MANIFEST = "mono_quant"
_TO_SIGNED = INT8.qmin
"""Added to uint8 codes, of which zero points are some, it makes int8 codes of them."""


@attrs.frozen(kw_only=True, eq=False)
class Contents:
    """An artifact, seen layer by layer.

    Args:
        tensors: of the artifact, each shared one once.
        manifest: of the artifact.
        layers: the quantized layers by name; none where the manifest is not that of a quantized model.
        ties: further name → name of one tensor.
    """

    tensors: Mapping[str, Tensor]
    manifest: dict[str, JSON] | None
    layers: Mapping[str, LayerPlan]
    ties: Mapping[str, str]

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """That of an artifact.

        Raises:
            ArtifactError: when its manifest is not well formed.
        """
        layers, ties = layers_and_ties(artifact.manifest)
        return cls(tensors=artifact.tensors, manifest=artifact.manifest, layers=layers, ties=ties)

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        """Floats that are no part of a quantized layer, under all of their names → shape."""
        ours = {name for plan in self.layers.values() for name in _stored_names(plan)}
        names = [*self.tensors, *self.ties]
        found = {name: self._tensor(name) for name in names if name not in ours}
        return {name: tuple(tensor.shape) for name, tensor in found.items() if tensor.is_floating_point()}

    def factors(self) -> list[str]:
        """Float layers that an algorithm has given a factor of their input, which other readers do not know."""
        rewrites = read_manifest(self.manifest).rewrites if self.manifest and self.layers else ()
        alone = {name for rewrite in rewrites if len(rewrite.layers) == 1 for name in rewrite.layers} - set(self.layers)
        return [
            f"layer {name or '(model)'!r}: an algorithm multiplies its input by a factor, which readers do not know: "
            "quantize the model again, and give that algorithm the option insert=False"
            for name in sorted(alone)
            if joined(name, "input_factor") in self.tensors
        ]

    def clashes(self) -> list[str]:
        """Tensors that have the name of one that is made of a weight, and layers without their tensors."""
        wanted = [name for plan in self.layers.values() for name in _stored_names(plan)]
        missing = [f"the artifact has no tensor {name!r}" for name in wanted if self._name(name) not in self.tensors]
        others = set(self.tensors) - set(wanted)
        made = [name for plan in self.layers.values() for name in _file_layout(plan)]
        return [*missing, *(f"two tensors would be called {name!r}" for name in made if name in others)]

    def write(self, path: Path, max_shard_bytes: int) -> None:
        """Write it as ``path`` or several shards beside it, a layer encoded only when it is written.

        Raises:
            ArtifactError: when it cannot be written.
        """
        metadata = {"format": "pt"} | ({} if self.manifest is None else {_MANIFEST: dump_object(self.manifest)})
        write_checkpoint(path, dict(self._infos()), self._encoded(), metadata, max_shard_bytes)

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> Artifact:
        """The artifact that `write` wrote.

        Raises:
            ArtifactError: when the tensors are not those that the manifest tells of.
        """
        manifest = checkpoint.manifest()
        layers, ties = layers_and_ties(manifest)
        tensors: dict[str, Tensor] = {}
        consumed: set[str] = set()
        for plan in layers.values():
            expected = _file_layout(plan)
            for name, (dtype, shape) in expected.items():
                if (info := checkpoint.infos.get(name)) != TensorInfo(dtype, shape):
                    raise ArtifactError(
                        f"{name} must be {TensorInfo(dtype, shape)}, as the manifest says, and is {info}"
                    )
            consumed |= set(expected)
            tensors |= {name: tensor for name, tensor in _decoded(plan, checkpoint) if name not in ties}
        tensors |= {name: checkpoint.read(name) for name in checkpoint if name not in consumed}
        return Artifact(tensors, manifest)

    def _infos(self) -> Iterator[tuple[str, TensorInfo]]:
        layer_of = {name: plan for plan in self.layers.values() for name in _stored_names(plan)}
        done: set[str] = set()
        for name in [*self.tensors, *(name for name in self.ties if name in layer_of)]:
            plan = layer_of.get(name)
            if plan is None:
                yield name, TensorInfo.of(self.tensors[name])
            elif plan.name not in done:
                done.add(plan.name)
                for made, (dtype, shape) in _file_layout(plan).items():
                    yield made, TensorInfo(dtype, shape)

    def _encoded(self) -> Iterator[tuple[str, Tensor]]:
        layer_of = {name: plan for plan in self.layers.values() for name in _stored_names(plan)}
        for name, tensor in self.tensors.items():
            if name not in layer_of:
                yield name, tensor.detach()
        for plan in self.layers.values():
            for weight, spec in plan.weights.items():
                name = joined(plan.name, weight)
                stored = {suffix: self._tensor(name + suffix) for suffix in spec.suffixes}
                yield from encode(name, stored, spec, packed=_is_packed(plan, spec)).items()
            if plan.needs_data:
                scale, zero_point = (joined(plan.name, name) for name in _OF_INPUT)
                yield scale, self._tensor(scale).reshape(1)
                yield zero_point, self._tensor(zero_point).add(_TO_SIGNED).to(torch.int8).reshape(1)

    def _name(self, name: str) -> str:
        return self.ties.get(name, name)

    def _tensor(self, name: str) -> Tensor:
        return self.tensors[self._name(name)]


_OF_INPUT = ("input_scale", "input_zero_point")


def layers_and_ties(manifest: dict[str, JSON] | None) -> tuple[dict[str, LayerPlan], dict[str, str]]:
    """The quantized layers by name, and further name → name of one tensor; none where there is no such manifest.

    Raises:
        ArtifactError: when it is not well formed.
    """
    if manifest is None or "format_version" not in manifest:
        return {}, {}
    read = read_manifest(manifest)
    return read.layers, read.ties


def _decoded(plan: LayerPlan, checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    for weight, spec in plan.weights.items():
        name, packed = joined(plan.name, weight), _is_packed(plan, spec)
        found = {made: checkpoint.read(made) for made in layout(name, spec, packed=packed)}
        if packed and tuple(found[f"{name}_shape"].tolist()) != spec.shape:
            raise ArtifactError(f"{name}_shape does not hold {list(spec.shape)}, as the manifest says")
        for suffix, tensor in decode(name, found, spec, packed=packed).items():
            yield name + suffix, tensor
    if plan.needs_data:
        scale, zero_point = (joined(plan.name, name) for name in _OF_INPUT)
        yield scale, checkpoint.read(scale).reshape(())
        yield zero_point, checkpoint.read(zero_point).to(torch.int32).sub(_TO_SIGNED).reshape(())


def _file_layout(plan: LayerPlan) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """All tensors of a layer in the file that are not in the float layer too."""
    tensors: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for weight, spec in plan.weights.items():
        tensors |= layout(joined(plan.name, weight), spec, packed=_is_packed(plan, spec))
    if plan.needs_data:
        scale, zero_point = (joined(plan.name, name) for name in _OF_INPUT)
        tensors |= {scale: (torch.float32, (1,)), zero_point: (torch.int8, (1,))}
    return tensors


def _stored_names(plan: LayerPlan) -> list[str]:
    """The same in the artifact."""
    weights = [joined(plan.name, weight) + suffix for weight, spec in plan.weights.items() for suffix in spec.suffixes]
    return [*weights, *(joined(plan.name, name) for name in _OF_INPUT if plan.needs_data)]


def _is_packed(plan: LayerPlan, spec: WeightSpec) -> bool:
    return is_packed(spec, has_quantized_input=plan.input is not None)
