"""What the manifest says of the weights in a file."""

import math
from collections.abc import Mapping
from typing import Any

from mono_quant.errors import ArtifactError
from mono_quant.plugin_api import JSON, WeightSpec

__all__ = ["Weights", "rounded", "weights_of"]

Weights = dict[str, tuple[str, WeightSpec]]
"""Tensor name of each quantized weight → its layer, and how it is stored."""


def weights_of(manifest: Mapping[str, JSON] | None) -> Weights:
    """The quantized weights; none where the manifest is not that of a quantized model.

    Raises:
        ArtifactError: when a layer in it is not well formed.
    """
    layers = (manifest or {}).get("layers")
    if not isinstance(layers, dict):
        return {}
    try:
        found = [
            (layer, weight, WeightSpec(**{**spec, "shape": tuple(spec["shape"])}))
            for layer, plan in layers.items()
            for weight, spec in _mapping(plan, "weights").items()
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"the manifest is not well formed: {error}") from error
    return {f"{layer}.{weight}" if layer else weight: (layer, spec) for layer, weight, spec in found}


def rounded(manifest: dict[str, JSON], changed: Mapping[str, tuple[float, float]], largest: float) -> dict[str, JSON]:
    """The manifest of a model some of whose scales were moved: figures that no longer hold are taken out.

    Args:
        manifest: as it was.
        changed: layer → energy of its weights, and of what moving did to them.
        largest: by how much the scale was moved that was moved most, in parts of itself.
    """
    signal, noise = (sum(pair[i] for pair in changed.values()) for i in (0, 1))
    said = {
        "gguf_largest_scale_change": largest,
        "gguf_rounding_sqnr_db": round(10 * math.log10(signal / noise), 1) if noise and signal else None,
    }
    known, of_layers = (_mapping(manifest, key) for key in ("metrics", "layer_sqnr_db"))
    metrics: dict[str, Any] = {**known, **({"sqnr_db": None} if "sqnr_db" in known else {}), **said}
    return {
        **manifest,
        "metrics": metrics,
        "layer_sqnr_db": {layer: None if layer in changed else value for layer, value in of_layers.items()},
    }


def _mapping(value: Any, key: str) -> dict[str, Any]:  # noqa: ANN401 - JSON
    found = value[key]
    if not isinstance(found, dict):
        raise TypeError(f"{key} is no mapping")
    return found
