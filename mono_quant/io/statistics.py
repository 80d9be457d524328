"""What observers have seen, as a file: ranges can be found again, for other codes, without running data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import attrs
import torch
from torch import Tensor

from mono_quant.component import Component, Wanted, component
from mono_quant.core.granularity import Granularity, as_granularity
from mono_quant.errors import ArtifactError, ConfigurationError
from mono_quant.io.safetensors_format import SafetensorsFormat
from mono_quant.plugin_api.artifact import JSON, Artifact
from mono_quant.plugin_api.observer import Observer

__all__ = ["LayerStatistics", "load_statistics", "save_statistics"]

_KIND = "mono_quant statistics, version 1"


@attrs.frozen(eq=False)
class LayerStatistics:
    """What one observer has seen.

    Args:
        observer: how it was asked for: its name, and its options.
        granularity: which elements share a range.
        state: what `Observer.state` gave.
    """

    observer: Component = attrs.field(converter=component)
    granularity: Granularity
    state: Mapping[str, Tensor]

    @classmethod
    def of(cls, observer: Observer, wanted: Wanted) -> Self:
        """What an observer has seen that was asked for as ``wanted``: its name, or a mapping of name and options.

        Raises:
            ConfigurationError: when it keeps no state, or has seen nothing.
        """
        state = observer.state()
        if not state:
            raise ConfigurationError(
                f"observer {component(wanted).name!r} has no statistics to save: it gives no state"
            )
        return cls(observer=wanted, granularity=observer.granularity, state=state)

    def load_into(self, observer: Observer, wanted: Wanted) -> None:
        """Let an observer have seen this; what it had seen is forgotten.

        Its codes may be of another type, its range symmetric or not, and its options others, as far as they do not
        change what is kept of the data.

        Args:
            observer: new, or of no more use.
            wanted: how that one was asked for.

        Raises:
            ConfigurationError: when it is another kind of observer, of another granularity, or the state does not fit.
        """
        name = component(wanted).name
        if name != self.observer.name:
            raise ConfigurationError(f"statistics of observer {self.observer.name!r} do not serve observer {name!r}")
        if str(observer.granularity) != str(self.granularity):
            raise ConfigurationError(
                f"statistics of observer {name!r} are {self.granularity}, and a range is needed {observer.granularity}"
            )
        try:
            observer.load_state(dict(self.state))
            _refuse_no_range(observer.range())
        except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
            observer.reset()
            raise ConfigurationError(
                f"statistics of observer {self.observer.as_wanted()!r} do not fit {component(wanted).as_wanted()!r}: "
                f"{type(error).__name__}: {error}"
            ) from error


def save_statistics(statistics: Mapping[str, LayerStatistics], path: str | Path) -> None:
    """Write what the observers of some layers have seen, as safetensors with the rest as JSON in its header.

    Args:
        statistics: by the name of the layer.
        path: of the file, which is written whole or not at all.

    Raises:
        ArtifactError: when it cannot be written.
    """
    layers: dict[str, JSON] = {}
    tensors: dict[str, Tensor] = {}
    for name, layer in statistics.items():
        places = {f"{name}/{part}": tensor for part, tensor in layer.state.items()}
        if places.keys() & tensors.keys():
            raise ArtifactError(f"two layers would both write {sorted(places.keys() & tensors.keys())}")
        tensors |= places
        observer: JSON = {"name": layer.observer.name, "options": layer.observer.options}
        layers[name] = {"observer": observer, "granularity": str(layer.granularity), "state": list(layer.state)}
    SafetensorsFormat().save(Artifact(tensors, {"kind": _KIND, "layers": layers}), Path(path))


def load_statistics(path: str | Path) -> dict[str, LayerStatistics]:
    """What `save_statistics` wrote, by the name of the layer. Nothing that the file names is imported.

    Raises:
        ArtifactError: when it cannot be read, or is another file.
    """
    artifact = SafetensorsFormat().load(Path(path))
    manifest = artifact.manifest
    if manifest is None or manifest.get("kind") != _KIND or set(manifest) != {"kind", "layers"}:
        raise ArtifactError(f"{path} does not hold {_KIND}")
    try:
        layers = _mapping(manifest["layers"])
        found = {name: _layer(name, _mapping(layer), artifact.tensors) for name, layer in layers.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    used = {f"{name}/{part}" for name, layer in found.items() for part in layer.state}
    if used != set(artifact.tensors):
        raise ArtifactError(f"{path} is damaged: tensors {sorted(set(artifact.tensors) - used)} are of no layer")
    return found


def _layer(name: str, layer: dict[str, JSON], tensors: Mapping[str, Tensor]) -> LayerStatistics:
    if set(layer) != {"observer", "granularity", "state"}:
        raise ValueError(f"layer {name!r} has the keys {sorted(layer)}")
    observer, parts = _mapping(layer["observer"]), layer["state"]
    if set(observer) != {"name", "options"} or not isinstance(observer["name"], str) or not isinstance(parts, list):
        raise ValueError(f"layer {name!r} names no observer, or no state")
    return LayerStatistics(
        observer=Component(observer["name"], _mapping(observer["options"])),
        granularity=as_granularity(str(layer["granularity"])),
        state={str(part): tensors[f"{name}/{part}"] for part in parts},
    )


def _mapping(value: JSON) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no JSON object")
    return value


def _refuse_no_range(ends: tuple[Tensor, Tensor] | None) -> None:
    """A file from a stranger may hold numbers that no data gives."""
    if ends is None:
        raise ValueError("they give no range")
    low, high = ends
    if low.ndim != 1 or low.shape != high.shape:
        raise ValueError(f"they give ends of shapes {tuple(low.shape)} and {tuple(high.shape)}")
    if not bool((torch.isfinite(low) & torch.isfinite(high) & (low <= high)).all()):
        raise ValueError("they give a range that is not finite, or whose minimum is above its maximum")
