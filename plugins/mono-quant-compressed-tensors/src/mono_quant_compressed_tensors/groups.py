"""What ``quantization_config`` says of layers: config groups with their targets, and the layers to ignore.

Readers refuse a group with a key that they do not know, so each has these and no others.
"""

from collections.abc import Mapping
from typing import Any

from mono_quant.core.granularity import PerGroup, PerTensor, PerToken
from mono_quant.plugin_api import JSON, LayerPlan, TensorSpec, WeightSpec

from mono_quant_compressed_tensors.weight import is_packed

__all__ = ["VERSION", "format_of", "grouped", "has_packed_zero_points", "quantization_config", "scheme_of"]

VERSION = "0.20.0"
"""Of compressed-tensors, whose layout this is."""

_MATRIX = 2


def quantization_config(layers: Mapping[str, LayerPlan], kept: Mapping[str, tuple[int, ...]]) -> dict[str, JSON]:
    """The value of ``"quantization_config"``; empty when no layer needs it.

    Args:
        layers: quantized layers by name.
        kept: parameters that stay float → shape.
    """
    groups = grouped(layers)
    if not groups:
        return {}
    formats = {scheme["format"] for scheme, _ in groups}
    ignored = [layer for layer, plan in layers.items() if format_of(plan) == "dense"]
    ignored += [name.removesuffix(".weight") for name, shape in kept.items() if _is_matrix_of_a_layer(name, shape)]
    config: dict[str, JSON] = {
        "quant_method": "compressed-tensors",
        "version": VERSION,
        "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "global_compression_ratio": None,
        "config_groups": {
            f"group_{number}": {"targets": [*targets], **scheme} for number, (scheme, targets) in enumerate(groups)
        },
        "ignore": [*dict.fromkeys(ignored)],
        "kv_cache_scheme": None,
    }
    if any(has_packed_zero_points(plan) for plan in layers.values()):
        config["dequantize"] = True  # for transformers, which cannot load packed zero points in any other way
    return config


def grouped(layers: Mapping[str, LayerPlan]) -> list[tuple[dict[str, Any], list[str]]]:
    """Each scheme with the names of its layers, in order of their first; layers of ordinary floats have none."""
    groups: list[tuple[dict[str, Any], list[str]]] = []
    for name, plan in layers.items():
        if format_of(plan) == "dense":
            continue
        scheme = scheme_of(plan)
        targets = next((targets for known, targets in groups if known == scheme), None)
        if targets is None:
            groups.append((scheme, [name]))
        else:
            targets.append(name)
    return groups


def scheme_of(plan: LayerPlan) -> dict[str, Any]:
    """A config group without its targets, in JSON values; layers that are quantized alike have equal ones."""
    return {
        "weights": _weights(plan.weights["weight"]),
        "input_activations": None if plan.input is None else _inputs(plan.input),
        "output_activations": None,
        "format": format_of(plan),
    }


def format_of(plan: LayerPlan) -> str:
    """The format of a layer's tensors, as compressed-tensors itself infers it; ``"dense"``: ordinary floats."""
    scaled = [spec for spec in plan.weights.values() if spec.is_scaled]
    if not scaled:
        return "dense"
    if plan.input is not None:
        return "int-quantized"
    return "pack-quantized" if is_packed(scaled[0]) else "naive-quantized"


def has_packed_zero_points(plan: LayerPlan) -> bool:
    """Whether zero points of its weight are packed into words."""
    spec = plan.weights.get("weight")
    if spec is None or not spec.is_scaled or spec.symmetric:
        return False
    return not isinstance(spec.granularity, PerTensor)


def _weights(spec: WeightSpec) -> dict[str, JSON]:
    strategy = "tensor" if isinstance(spec.granularity, PerTensor) else "group" if _in_groups(spec) else "channel"
    return _arguments(spec, strategy, spec.group_size if strategy == "group" else None)


def _in_groups(spec: WeightSpec) -> bool:
    """A group that is a whole channel is none."""
    return isinstance(spec.granularity, PerGroup) and spec.groups > 1


def _inputs(spec: TensorSpec) -> dict[str, JSON]:
    return _arguments(spec, "token" if isinstance(spec.granularity, PerToken) else "tensor", None)


def _arguments(spec: TensorSpec, strategy: str, group_size: int | None) -> dict[str, JSON]:
    return {
        "num_bits": spec.dtype.bits,
        "type": "float" if spec.dtype.is_float else "int",
        "symmetric": spec.symmetric,
        "strategy": strategy,
        "group_size": group_size,
        "dynamic": spec.is_dynamic,
    }


def _is_matrix_of_a_layer(name: str, shape: tuple[int, ...]) -> bool:
    return name.endswith(".weight") and len(shape) == _MATRIX
