"""The tensors that a quantized file holds for its weights, by the word of its manifest, where no model is known."""

from collections.abc import Callable, Mapping

from torch import Tensor

from mono_quant.core.checkpoint_plan import joined
from mono_quant.core.encoding import encode
from mono_quant.core.schemes.layers import all_finite
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.errors import ArtifactError, UnsupportedLayerError
from mono_quant.io.scales import is_impossible_scale
from mono_quant.plugin_api.plan import LayerPlan

__all__ = ["encode_weight", "refuse_misfits", "tensors_beside", "weight_specs"]

_OF_INPUTS = ("input_scale", "input_zero_point")


def encode_weight(name: str, weight: Tensor, spec: WeightSpec) -> dict[str, Tensor]:
    """`encode` of a tensor of a checkpoint.

    Raises:
        UnsupportedLayerError: when it is not finite, or what is stored would not be.
    """
    if not all_finite(weight):
        raise UnsupportedLayerError(f"tensor {name!r} has values that are not finite: exclude its layer")
    stored = encode(weight, spec)
    if not spec.is_scaled and not all_finite(stored[""]):
        raise UnsupportedLayerError(f"tensor {name!r} has values beyond {spec.dtype.name}; use bfloat16")
    return stored


def weight_specs(layers: Mapping[str, LayerPlan]) -> dict[str, WeightSpec]:
    """Name of each quantized weight → how it is stored."""
    return {joined(name, weight): spec for name, plan in layers.items() for weight, spec in plan.weights.items()}


def tensors_beside(layers: Mapping[str, LayerPlan]) -> set[str]:
    """Names of all tensors that the float model does not have: scales and zero points."""
    of_weights = {name + suffix for name, spec in weight_specs(layers).items() for suffix in spec.layout if suffix}
    static = [layer for layer, plan in layers.items() if plan.needs_data]
    return of_weights | {joined(layer, name) for layer in static for name in _OF_INPUTS}


def refuse_misfits(
    specs: Mapping[str, WeightSpec], tensors: Mapping[str, Tensor], read: Callable[[str], Tensor]
) -> None:
    """Refuse tensors that are not what the manifest says of them; of their numbers, only the scales are read.

    Args:
        specs: from `weight_specs`.
        tensors: all of the file by name, for their dtypes and shapes; they may be on ``meta``.
        read: gives the numbers of one of them.

    Raises:
        ArtifactError: naming the first that is missing, of another dtype or shape, or a scale that is not finite and
            positive.
    """
    for name, spec in specs.items():
        for suffix, (dtype, shape) in spec.layout.items():
            found = tensors.get(name + suffix)
            if found is None or found.dtype != dtype or tuple(found.shape) != shape:
                raise ArtifactError(f"{name + suffix} must be {dtype}{list(shape)}, as the manifest says")
        if spec.is_scaled and is_impossible_scale(read(f"{name}_scale")):
            raise ArtifactError(f"the file is damaged: {name}_scale is not finite and positive")
