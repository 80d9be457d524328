"""Artifacts as ``.gguf`` files."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_VERSION, GGUFWriter
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.plugin_api import JSON, Artifact, Format, LayerPlan, WeightSpec, replacing
from torch import Tensor

from mono_quant_gguf.blocked import BlockedWeight, blocked_weights
from mono_quant_gguf.blocks import decode_blocks
from mono_quant_gguf.half import Halves
from mono_quant_gguf.kinds import kind_of, why_not
from mono_quant_gguf.manifest import rounded, weights_of
from mono_quant_gguf.metadata import ARCHITECTURE, add_metadata, checked
from mono_quant_gguf.plain import as_array, as_tensor, note_of, why_not_plain
from mono_quant_gguf.reading import StoredTensor, json_object, read

__all__ = ["GGUFFormat"]

_MANIFEST, _NOTES = "mono_quant.manifest", "mono_quant.tensors"
_NO_ARCHITECTURE = "unknown"


class GGUFFormat(Format):
    """Quantized weights as ggml's blocks, under the names that they have in the model; everything else as it is.

    The manifest goes along as text, so that the file gives the artifact back. A scale must be a float16 number, since
    that is what blocks hold.

    Args:
        round_scales: whether scales that are none are moved to the nearest that fits, by 1/64 at most. The manifest in
            the file then says by how much, and no longer has the SQNR that was measured before.
        metadata: further keys of the file, as ``{"general.architecture": "llama", "llama.block_count": 2}``.

    Raises:
        ConfigurationError: when an option cannot be meant.
    """

    def __init__(self, *, round_scales: bool = False, metadata: Mapping[str, Any] | None = None) -> None:
        if not isinstance(round_scales, bool):
            raise ConfigurationError(f"round_scales must be true or false, got {round_scales!r}")
        self._can_round = round_scales
        self._metadata = checked(metadata)

    def refusals(self, layers: Mapping[str, LayerPlan], kept: Collection[str] = ()) -> Mapping[str, str]:
        """Layers with a weight that no blocks hold."""
        del kept
        found = {name: "; ".join(_refused(plan)) for name, plan in layers.items()}
        return {name: why for name, why in found.items() if why}

    def can_store(self, artifact: Artifact) -> list[str]:
        """Plain tensors of types that GGUF has; codes that blocks hold, with scales that are float16 numbers."""
        try:
            blocked = blocked_weights(artifact)
            json.dumps(artifact.manifest, allow_nan=False)
            "".join(artifact.tensors).encode()
        except (ArtifactError, ValueError, TypeError) as error:
            return [str(error)]
        parts = _parts(blocked)
        plain = [
            f"tensor {name!r} {why}"
            for name, tensor in artifact.tensors.items()
            if name not in parts and (why := why_not_plain(tensor))
        ]
        return [*plain, *(why for weight in blocked.values() if (why := weight.why_not(can_round=self._can_round)))]

    def save(self, artifact: Artifact, path: Path) -> None:
        """Write the file."""
        if reasons := self.can_store(artifact):
            raise ArtifactError(f"{path} cannot be written: {'; '.join(reasons)}")
        blocked = blocked_weights(artifact)
        scales = {name: weight.halves(can_round=self._can_round) for name, weight in blocked.items()}
        parts = _parts(blocked)
        plain = {name: tensor for name, tensor in artifact.tensors.items() if name not in parts}
        writer = GGUFWriter(None, self._metadata.get(ARCHITECTURE, _NO_ARCHITECTURE))
        if artifact.manifest is not None:
            manifest = _with_changes(artifact.manifest, blocked, scales)
            writer.add_string(_MANIFEST, json.dumps(manifest, allow_nan=False))
        if notes := {name: note for name, tensor in plain.items() if (note := note_of(tensor)) is not None}:
            writer.add_string(_NOTES, json.dumps(notes))
        if blocked:
            writer.add_quantization_version(GGML_QUANT_VERSION)
        add_metadata(writer, self._metadata)
        for name in artifact.tensors:
            if name in blocked:
                writer.add_tensor(name, blocked[name].blocks(scales[name]), raw_dtype=blocked[name].kind.type)
            elif name in plain:
                array, kind = as_array(plain[name])
                writer.add_tensor(name, array, raw_dtype=kind)
        with replacing(path) as temporary:
            try:
                writer.write_header_to_file(temporary)
                writer.write_kv_data_to_file()
                writer.write_tensors_to_file()
            finally:
                writer.close()

    def load(self, path: Path) -> Artifact:
        """Read the file; what is not in blocks is mapped."""
        content = read(path)
        try:
            manifest = json_object(content.texts, _MANIFEST)
            notes = json_object(content.texts, _NOTES) or {}
            specs = {name: spec for name, (_, spec) in weights_of(manifest).items()}
            ties = (manifest or {}).get("ties")
            tied = set(ties) if isinstance(ties, dict) else set()
            tensors = {
                part: tensor
                for name, stored in content.tensors.items()
                for part, tensor in _tensors_of(name, stored, specs.get(name), notes.get(name))
                if part not in tied  # a scale that is stored with another weight
            }
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error
        return Artifact(tensors, manifest)


def _refused(plan: LayerPlan) -> Iterator[str]:
    for name, spec in plan.weights.items():
        if why := why_not(spec):
            yield f"its {name} is {spec}: {why}"


def _parts(blocked: Mapping[str, BlockedWeight]) -> set[str]:
    return {part for weight in blocked.values() for part in weight.parts}


def _with_changes(
    manifest: dict[str, JSON], blocked: Mapping[str, BlockedWeight], scales: Mapping[str, Halves]
) -> dict[str, JSON]:
    """The manifest as it holds for the scales in the file."""
    energies: dict[str, tuple[float, float]] = {}
    for name, weight in blocked.items():
        if scales[name].change.any():
            signal, noise = energies.get(weight.layer, (0.0, 0.0))
            more_signal, more_noise = weight.energies(scales[name])
            energies[weight.layer] = (signal + more_signal, noise + more_noise)
    if not energies:
        return manifest
    return rounded(manifest, energies, max(float(one.change.max()) for one in scales.values()))


def _tensors_of(
    name: str,
    stored: StoredTensor,
    spec: WeightSpec | None,
    note: Any,  # noqa: ANN401 - JSON
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the artifact that one of the file stands for.

    Raises:
        ArtifactError: naming it.
    """
    try:
        kind = kind_of(spec) if spec is not None and not why_not(spec) else None
        if spec is None or kind is None or kind.type != stored.kind:
            yield name, as_tensor(stored.data, stored.kind, note if isinstance(note, dict) else None)
        else:
            for suffix, tensor in decode_blocks(stored.data, spec, kind).items():
                yield name + suffix, tensor
    except ArtifactError as error:
        raise ArtifactError(f"tensor {name!r}: {error}") from error
