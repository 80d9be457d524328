"""A format of folders for tests: other names, and one tensor more for each weight."""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mono_quant.plugin_api import JSON, Artifact, FolderFormat, FormatSpec, LayerPlan, WeightSpec, hookimpl

__all__ = ["PlainFolder", "PlainPlugin"]


class PlainFolder(FolderFormat):
    """Refuses the output layer where it is told to."""

    def __init__(self, refused: str = "", says: str = "codes") -> None:
        self.refused = refused
        self.says = says

    def refusals(self, layers: Mapping[str, LayerPlan], kept: Collection[str] = ()) -> Mapping[str, str]:
        del kept
        return {name: "it is refused" for name in layers if name == self.refused}

    def layout(self, name: str, spec: WeightSpec) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        tensors = {name + (suffix or "_" + self.says): value for suffix, value in spec.layout.items()}
        return {**tensors, f"{name}_shape": (torch.int64, (len(spec.shape),))}

    def encode(self, name: str, stored: Mapping[str, Tensor], spec: WeightSpec) -> Mapping[str, Tensor]:
        if self.says == "nothing":
            return {}
        tensors = {name + (suffix or "_" + self.says): value for suffix, value in stored.items()}
        return {**tensors, f"{name}_shape": torch.tensor(spec.shape)}

    def config(self, layers: Mapping[str, LayerPlan], kept: Mapping[str, tuple[int, ...]]) -> dict[str, JSON]:
        return {"quantization_config": {"layers": sorted(layers), "kept": sorted(kept)}}

    def recognizes(self, path: Path) -> bool:
        return path.name == "plain"

    def can_store(self, artifact: Artifact) -> list[str]:
        return [] if artifact.tensors else ["there is nothing"]

    def save(self, artifact: Artifact, path: Path) -> None:
        raise NotImplementedError

    def load(self, path: Path) -> Artifact:
        raise NotImplementedError


class PlainPlugin:
    @hookimpl
    def mono_quant_formats(self) -> list[FormatSpec]:
        return [FormatSpec(name="plain-folder", summary="for tests", factory=PlainFolder, suffixes=())]
