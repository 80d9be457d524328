"""The int8 schemes: int8 weights per output channel, uint8 inputs with a scale known before or found for each input."""

from collections.abc import Mapping
from typing import ClassVar, cast, get_args

import torch
from torch import Tensor, nn

from mono_quant.core.granularity import PerChannel, PerTensor
from mono_quant.core.qtypes import INT8, UINT8
from mono_quant.core.weights import Saturation, quantize_weight
from mono_quant.errors import ConfigurationError, UnsupportedLayerError
from mono_quant.modules import QuantizedConv1d, QuantizedConv2d, QuantizedConv3d, QuantizedLinear, QuantizedModule
from mono_quant.plugin_api.observer import Observer
from mono_quant.plugin_api.plan import Keep, LayerPlan, TensorSpec
from mono_quant.plugin_api.scheme import Scheme

__all__ = ["Int8Dynamic", "Int8Static"]

_WEIGHT = TensorSpec(dtype=INT8, symmetric=True, granularity=PerChannel(0))

_QuantizedLayer = type[QuantizedLinear] | type[QuantizedConv1d] | type[QuantizedConv2d] | type[QuantizedConv3d]
_LAYERS: dict[type[nn.Module], _QuantizedLayer] = {
    nn.Linear: QuantizedLinear,
    nn.Conv1d: QuantizedConv1d,
    nn.Conv2d: QuantizedConv2d,
    nn.Conv3d: QuantizedConv3d,
}


class _Int8(Scheme):
    """What both have in common: the weights."""

    name: ClassVar[str]
    layer_types: ClassVar[tuple[type[nn.Module], ...]]
    input_spec: ClassVar[TensorSpec | None]

    def __init__(self, *, saturation: Saturation = "pair-safe") -> None:
        if saturation not in get_args(Saturation):
            raise ConfigurationError(f"saturation must be one of {get_args(Saturation)}, got {saturation!r}")
        self.saturation = saturation

    def plan(self, name: str, module: nn.Module) -> LayerPlan | Keep:
        """Decide on one module."""
        base = _base(module)
        if base is None or base not in self.layer_types:
            return Keep(f"{self.name} does not quantize {type(module).__name__}")
        why_not = _why_not(module, base)
        if why_not:
            return Keep(why_not)
        weight, bias = cast("Tensor", module.weight), cast("Tensor | None", module.bias)
        bias_bytes = 0 if bias is None else bias.numel() * bias.element_size()
        input_bytes = 0 if self.input_spec is None else 8
        return LayerPlan(
            name=name,
            layer_type=base.__name__,
            scheme=self.name,
            weight=_WEIGHT,
            weight_shape=tuple(weight.shape),
            has_bias=bias is not None,
            input=self.input_spec,
            quantized_bytes=weight.numel() + 4 * weight.shape[0] + input_bytes + bias_bytes,
        )

    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> QuantizedModule:
        """The quantized layer; its bias is a copy of the float one."""
        weight, bias = cast("Tensor", module.weight), cast("Tensor | None", module.bias)
        ends = torch.stack(torch.aminmax(weight.detach()))
        if not bool(torch.isfinite(ends.float()).all()):
            raise UnsupportedLayerError(
                f"layer {plan.name!r} has weights that are not finite in float32: it cannot be quantized"
            )
        codes, weight_scale = quantize_weight(weight, self.saturation)
        scale, zero_point = (None, None) if plan.input is None else statistics["input"].calculate_qparams()
        return _quantized_like(
            module,
            weight=codes,
            weight_scale=weight_scale,
            input_scale=None if scale is None else scale.to(weight.device),
            input_zero_point=None if zero_point is None else zero_point.to(weight.device),
            bias=None if bias is None else bias.detach().clone(),
        )

    def restore(self, module: nn.Module, plan: LayerPlan) -> QuantizedModule:
        """The quantized layer, empty."""
        out = plan.weight_shape[0]
        return _quantized_like(
            module,
            weight=torch.empty(plan.weight_shape, dtype=torch.int8, device="meta"),
            weight_scale=torch.empty(out, device="meta"),
            input_scale=None if plan.input is None else torch.empty((), device="meta"),
            input_zero_point=None if plan.input is None else torch.empty((), dtype=torch.int32, device="meta"),
            bias=torch.empty(out, device="meta") if plan.has_bias else None,
        )


class Int8Static(_Int8):
    """Static int8 for ``nn.Linear`` and ``nn.Conv1d/2d/3d``: needs calibration data.

    Args:
        saturation: ``"pair-safe"`` narrows each row of weights just so far that no kernel can clip a sum on any CPU;
            ``"full-range"`` does not, for CPUs with VNNI, AMX or NEON dot products.
    """

    name = "int8-static"
    layer_types = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    input_spec = TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor())


class Int8Dynamic(_Int8):
    """Dynamic int8 for ``nn.Linear``: each input is quantized by its own smallest and largest value; needs no data.

    Args:
        saturation: as for `Int8Static`.
    """

    name = "int8-dynamic"
    layer_types = (nn.Linear,)
    input_spec = None


def _base(module: nn.Module) -> type[nn.Module] | None:
    return next((base for base in _LAYERS if isinstance(module, base)), None)


def _quantized_like(module: nn.Module, **tensors: Tensor | None) -> QuantizedModule:
    """The quantized layer for a float one, in its mode."""
    base = _base(module)
    if base is None:
        raise UnsupportedLayerError(f"there is no int8 form of {type(module).__name__}")
    layer: QuantizedModule = _LAYERS[base].like(module, tensors)  # type: ignore[arg-type]
    return layer.train(module.training)


def _why_not(module: nn.Module, base: type[nn.Module]) -> str:
    """Why this layer, though of a known type, cannot be replaced by the type's quantized form; empty when it can."""
    overridden = [
        name
        for name in ("forward", "_conv_forward", "__call__")
        if name in vars(module) or getattr(type(module), name, None) is not getattr(base, name, None)
    ]
    if "weight" not in module._parameters:  # noqa: SLF001 - the question is where the attribute lives
        return "its weight is computed, not a parameter (parametrized or weight-normalised); remove that first"
    if overridden:
        return f"{type(module).__qualname__} overrides {base.__name__}.{overridden[0]}, so its function is not known"
    weight = cast("Tensor", module.weight)
    if isinstance(weight, nn.parameter.UninitializedParameter):
        return "its shape is not known yet: run the model once before quantizing"
    if not weight.is_floating_point():
        return f"its weight is {weight.dtype}, not float"
    if not weight.numel():
        return "its weight is empty"
    return ""
