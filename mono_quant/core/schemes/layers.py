"""What there is to quantize in the layers of torch, and why a layer that looks like one of them is not."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.errors import UnsupportedLayerError
from mono_quant.modules import QuantizedModule
from mono_quant.plugin_api.plan import LayerPlan

__all__ = [
    "FLOATS",
    "LINEAR_AND_CONV",
    "all_finite",
    "bytes_beside",
    "channel_axis",
    "empty_weights",
    "is_bias_computed",
    "overridden",
    "refuse_not_finite",
    "replaced",
    "weights_of",
    "why_not_a_weight",
]

_ONE_WEIGHT = (
    nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag,
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
LINEAR_AND_CONV = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Those that algorithms work on."""
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_METHODS = ("forward", "_conv_forward", "__call__")
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def weights_of(module: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that can be quantized; none for a module that is of no known kind."""
    if isinstance(module, _ONE_WEIGHT):
        return ("weight",)
    if isinstance(module, nn.RNNBase):
        return tuple(name for name in module._flat_weights_names if name.startswith("weight_"))
    if isinstance(module, nn.RNNCellBase):
        return ("weight_ih", "weight_hh")
    if isinstance(module, nn.MultiheadAttention):
        names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        return tuple(name for name in names if getattr(module, name) is not None)
    return ()


def channel_axis(module: nn.Module) -> int:
    """The axis of the weight that the output channels run along."""
    return 1 if isinstance(module, _TRANSPOSED) else 0


def why_not_a_weight(module: nn.Module, name: str) -> str:
    """Why a parameter of a layer cannot be quantized; empty when it can."""
    if isinstance(module, QuantizedModule):
        return "it is quantized already"
    if name not in module._parameters:
        return f"its {name} is computed, not a parameter (parametrized or weight-normalised); remove that first"
    weight = module.get_parameter(name)
    if isinstance(weight, nn.parameter.UninitializedParameter):
        return "its shape is not known yet: run the model once before quantizing"
    if weight.dtype not in FLOATS:
        return f"its {name} is {weight.dtype}, not float"
    if not weight.numel():
        return f"its {name} is empty"
    return ""


def is_bias_computed(module: nn.Module) -> bool:
    """Whether a layer has a bias that is no parameter: parametrized, or a buffer."""
    return hasattr(module, "bias") and "bias" not in module._parameters


def overridden(module: nn.Module, base: type[nn.Module]) -> str:
    """The method by which a layer does something else than its base; empty when it does the same."""
    own = type(module)
    changed = (name for name in _METHODS if getattr(own, name, None) is not getattr(base, name, None))
    return replaced(module) or next(changed, "")


def replaced(module: nn.Module) -> str:
    """The method that was replaced on the object itself; empty when none was."""
    return next((name for name in _METHODS if name in vars(module)), "")


def refuse_not_finite(layer: str, name: str, weight: Tensor) -> None:
    """Refuse a weight that has no place in any range.

    Raises:
        UnsupportedLayerError: naming the layer.
    """
    if not all_finite(weight):
        what = "weights" if name == "weight" else f"weights ({name})"
        raise UnsupportedLayerError(
            f"layer {layer or '(model)'!r} has {what} that are not finite in float32: it cannot be quantized"
        )


def all_finite(weight: Tensor) -> bool:
    """Whether all numbers of a tensor that is not empty are finite in float32: a NaN or infinity shows in the ends."""
    ends = torch.stack(torch.aminmax(weight.detach()))
    return bool(torch.isfinite(ends.float()).all())


def empty_weights(
    module: nn.Module, plan: LayerPlan, is_written: Callable[[WeightSpec], bool]
) -> dict[str, dict[str, Tensor]]:
    """The tensors that a plan stores the weights of a layer in, on ``meta``: weight → suffix → tensor.

    Args:
        module: the float layer.
        plan: from a file, which may say anything.
        is_written: whether the scheme stores weights like that; modules and kernels rely on it.

    Raises:
        UnsupportedLayerError: when it is the plan of other weights, or stores one as the scheme never does.
    """
    names = weights_of(module)
    if set(plan.weights) != set(names):
        raise UnsupportedLayerError(f"its weights are {', '.join(names)}, not {', '.join(plan.weights) or 'none'}")
    for name, spec in plan.weights.items():
        if not is_written(spec):
            raise UnsupportedLayerError(f"{plan.scheme} does not store a {name} as {spec}")
    return {
        name: {suffix: torch.empty(shape, dtype=dtype, device="meta") for suffix, (dtype, shape) in spec.layout.items()}
        for name, spec in plan.weights.items()
    }


def bytes_beside(module: nn.Module, weights: Mapping[str, WeightSpec]) -> int:
    """Bytes of the layer's own tensors that stay as they are."""
    tensors = {**module._parameters, **module._buffers}
    kept = (tensor for name, tensor in tensors.items() if name not in weights and tensor is not None)
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)
