"""The int8 schemes: int8 weights per output channel, uint8 inputs with a scale known before or found for each input."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import attrs
import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from mono_quant.core.granularity import PerChannel, PerTensor, PerToken
from mono_quant.core.qtypes import INT8, UINT8
from mono_quant.core.schemes.layers import (
    bytes_beside,
    empty_weights,
    overridden,
    refuse_not_finite,
    weights_of,
    why_not_a_weight,
)
from mono_quant.core.tensor_spec import TensorSpec, WeightSpec
from mono_quant.core.weights import Saturation, quantize_weight
from mono_quant.errors import ConfigurationError, UnsupportedLayerError
from mono_quant.modules import (
    KernelModule,
    QuantizedConv1d,
    QuantizedConv2d,
    QuantizedConv3d,
    QuantizedLinear,
    QuantizedModule,
    QuantizedMultiheadAttention,
    QuantizedSmoothedLinear,
    SmoothedLinear,
)
from mono_quant.plugin_api.observer import Observer
from mono_quant.plugin_api.plan import Keep, LayerPlan
from mono_quant.plugin_api.scheme import Scheme

__all__ = ["Int8Dynamic", "Int8Static"]

_LAYERS: dict[type[nn.Module], type[KernelModule]] = {
    SmoothedLinear: QuantizedSmoothedLinear,
    nn.Linear: QuantizedLinear,
    nn.Conv1d: QuantizedConv1d,
    nn.Conv2d: QuantizedConv2d,
    nn.Conv3d: QuantizedConv3d,
}

_UNWATCHED = (nn.MultiheadAttention, NonDynamicallyQuantizableLinear)
"""Layers whose inputs cannot be watched from outside: projections inside attention, and the one behind it."""

_STORED: dict[str, Any] = {"dtype": INT8, "symmetric": True, "granularity": PerChannel(0)}
"""Every weight, whatever the options."""

Activations = Literal["per-tensor", "per-token"]


class _Int8(Scheme):
    """What both have in common: the weights."""

    name: ClassVar[str]
    layer_types: ClassVar[tuple[type[nn.Module], ...]]
    input_specs: ClassVar[tuple[TensorSpec, ...]]
    """One for each choice of options."""

    def __init__(self, *, saturation: Saturation, input_spec: TensorSpec) -> None:
        if saturation not in get_args(Saturation):
            raise ConfigurationError(f"saturation must be one of {get_args(Saturation)}, got {saturation!r}")
        self.saturation = saturation
        self.input_spec = input_spec

    def plan(self, name: str, module: nn.Module) -> LayerPlan | Keep:
        """Decide on one module."""
        if why_not := self.why_not(module):
            return Keep(why_not)
        weights = {name: _spec_of(module.get_parameter(name)) for name in weights_of(module)}
        input_spec = _input_of(module, self.input_spec)
        input_bytes = 0 if input_spec.is_dynamic else 8
        return LayerPlan(
            name=name,
            layer_type=next(base.__name__ for base in self.layer_types if isinstance(module, base)),
            scheme=self.name,
            weights=weights,
            input=input_spec,
            quantized_bytes=sum(spec.nbytes for spec in weights.values()) + input_bytes + bytes_beside(module, weights),
        )

    def why_not(self, module: nn.Module) -> str:
        """Why a module is not quantized; empty when it is."""
        base = next((base for base in self.layer_types if isinstance(module, base)), None)
        if base is None:
            return f"{self.name} does not quantize {type(module).__name__}"
        if why_not := next(filter(None, (why_not_a_weight(module, name) for name in weights_of(module))), ""):
            return why_not
        if isinstance(module, nn.MultiheadAttention) and (module.bias_k is not None or module.add_zero_attn):
            return "it appends rows of its own to keys and values (add_bias_kv, add_zero_attn)"
        if method := overridden(module, base):
            return f"{type(module).__qualname__} overrides {base.__name__}.{method}, so its function is not known"
        return ""

    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> QuantizedModule:
        """The quantized layer; its bias is a copy of the float one."""
        stored = {}
        for name in plan.weights:
            weight = module.get_parameter(name)
            refuse_not_finite(plan.name, name, weight)
            codes, scale = quantize_weight(weight, self.saturation)
            stored[name] = {"": codes, "_scale": scale}
        qparams = None
        if plan.needs_data:
            input_scale, zero_point = statistics["input"].calculate_qparams()
            device = module.get_parameter("weight").device
            qparams = (input_scale.to(device), zero_point.to(device))
        return _quantized_like(module, plan, stored, qparams)

    def restore(self, module: nn.Module, plan: LayerPlan) -> QuantizedModule:
        """The quantized layer, empty."""
        if why_not := self.why_not(module):
            raise UnsupportedLayerError(why_not)
        if plan.input not in [_input_of(module, spec) for spec in self.input_specs]:
            raise UnsupportedLayerError(f"{self.name} does not quantize its input as {plan.input or 'float'}")
        stored = empty_weights(module, plan, lambda spec: spec == attrs.evolve(spec, **_STORED))
        scale, zero_point = (torch.empty((), dtype=dtype, device="meta") for dtype in (torch.float32, torch.int32))
        qparams = (scale, zero_point)
        return _quantized_like(module, plan, stored, qparams if plan.needs_data else None).to("meta")


class Int8Static(_Int8):
    """Static int8 for ``nn.Linear`` and ``nn.Conv1d/2d/3d``: needs calibration data.

    The projections of ``nn.MultiheadAttention`` are quantized too, dynamically: no calibration sees their inputs.

    Args:
        saturation: ``"pair-safe"`` narrows each row of weights just so far that no kernel can clip a sum on any CPU;
            ``"full-range"`` does not, for CPUs with VNNI, AMX or NEON dot products.
    """

    name = "int8-static"
    layer_types = (SmoothedLinear, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)
    input_specs = (TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor()),)

    def __init__(self, *, saturation: Saturation = "pair-safe") -> None:
        super().__init__(saturation=saturation, input_spec=self.input_specs[0])


class Int8Dynamic(_Int8):
    """Dynamic int8 for ``nn.Linear`` and ``nn.MultiheadAttention``: needs no data.

    Each input is quantized by its own range when the model runs.

    Args:
        activations: ``"per-tensor"``: one asymmetric range for each input; ``"per-token"``: one symmetric range for
            each row of it, which outliers in other rows do not widen.
        saturation: as for `Int8Static`.
    """

    name = "int8-dynamic"
    layer_types = (SmoothedLinear, nn.Linear, nn.MultiheadAttention)
    input_specs = (
        TensorSpec(dtype=UINT8, symmetric=False, granularity=PerTensor(), is_dynamic=True),
        TensorSpec(dtype=UINT8, symmetric=True, granularity=PerToken(), is_dynamic=True),
    )

    def __init__(self, *, activations: Activations = "per-tensor", saturation: Saturation = "pair-safe") -> None:
        if activations not in get_args(Activations):
            raise ConfigurationError(f"activations must be one of {get_args(Activations)}, got {activations!r}")
        super().__init__(saturation=saturation, input_spec=self.input_specs[activations == "per-token"])


def _spec_of(weight: Tensor) -> WeightSpec:
    return WeightSpec(**_STORED, shape=weight.shape, float_dtype=str(weight.dtype).removeprefix("torch."))


def _input_of(module: nn.Module, spec: TensorSpec) -> TensorSpec:
    return attrs.evolve(spec, is_dynamic=True) if isinstance(module, _UNWATCHED) else spec


def _quantized_like(
    module: nn.Module,
    plan: LayerPlan,
    stored: Mapping[str, Mapping[str, Tensor]],
    qparams: tuple[Tensor, Tensor] | None,
) -> QuantizedModule:
    if plan.input is not None and isinstance(module, nn.MultiheadAttention):
        return QuantizedMultiheadAttention(module, plan.weights, stored, plan.input)
    quantized = next((quantized for base, quantized in _LAYERS.items() if base.__name__ == plan.layer_type), None)
    if quantized is None or plan.input is None:
        raise UnsupportedLayerError(f"layer {plan.name or '(model)'!r}: there is no int8 form of {plan.layer_type}")
    return quantized(module, plan.weights["weight"], stored["weight"], plan.input, qparams)
