"""Schemes that quantize weights alone: less to store and to read; the arithmetic stays float. They need no data."""

import re
from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from mono_quant.core.encoding import encode
from mono_quant.core.granularity import Granularity, PerChannel, PerGroup, PerTensor
from mono_quant.core.qtypes import BFLOAT16, FLOAT8_E4M3, FLOAT16, QType, int_type
from mono_quant.core.schemes.groups import Misfit, fitting_group
from mono_quant.core.schemes.layers import (
    FLOATS,
    all_finite,
    bytes_beside,
    channel_axis,
    empty_weights,
    is_bias_computed,
    overridden,
    refuse_not_finite,
    replaced,
    weights_of,
    why_not_a_weight,
)
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.errors import ConfigurationError, UnsupportedLayerError
from mono_quant.modules import (
    BagOfRows,
    LinearByKernel,
    Rows,
    SmoothedByKernel,
    SmoothedLinear,
    WeightOnly,
    as_weight_only,
    name_clash,
    why_no_subclass,
)
from mono_quant.plugin_api.observer import Observer
from mono_quant.plugin_api.plan import Keep, LayerPlan
from mono_quant.plugin_api.scheme import Scheme

__all__ = [
    "BFloat16",
    "Float8WeightOnly",
    "Float16",
    "Int2WeightOnly",
    "Int3WeightOnly",
    "Int4WeightOnly",
    "Int5WeightOnly",
    "Int6WeightOnly",
    "Int7WeightOnly",
    "Int8WeightOnly",
    "WeightOnlyScheme",
]

Grain = Literal["per-tensor", "per-channel", "per-group"]
_AXES = 2
"""Weights have at least as many: what has one is a bias or belongs to a norm."""
_NAMES = re.compile(r"weight|.*_weight|weight_(ih|hh|hr)(_l[0-9]+(_reverse)?)?")
"""What weights are called; not ``weight_scale``, or ``weight_v`` of a weight that is computed."""
_BETTER: dict[type[nn.Module], type[WeightOnly]] = {
    SmoothedLinear: SmoothedByKernel,
    nn.Linear: LinearByKernel,
    nn.Embedding: Rows,
    nn.EmbeddingBag: BagOfRows,
}
"""Layers that need not make the whole weight float, or that kernels run."""


class WeightOnlyScheme(Scheme):
    """Quantizes the weights of Linear, Bilinear, convolutions, embeddings, recurrent layers and attention.

    Args:
        dtype: type of the codes.
        symmetric: whether ranges are centred on zero.
        granularity: which weights share a scale; channels are output channels, rows of an embedding, gates.
        group_size: neighbours along the input features that share one, per group.
        misfit: what to do with a layer whose input features the group does not divide: ``"error"``; ``"adjust"`` takes
            the largest group below that does; ``"pad"`` leaves the last group shorter.
    """

    name: ClassVar[str]

    def __init__(
        self, dtype: QType, *, symmetric: bool = True, granularity: Grain = "per-channel", group_size: int = 128,
        misfit: Misfit = "error",
    ) -> None:  # fmt: skip
        for option, value, known in (
            ("granularity", granularity, get_args(Grain)),
            ("misfit", misfit, get_args(Misfit)),
        ):
            if value not in known:
                raise ConfigurationError(f"{option} must be one of {', '.join(known)}, got {value!r}")
        self.dtype = dtype
        self.symmetric = symmetric
        self.granularity = granularity
        self.group_size = PerGroup(group_size).size
        self.misfit: Misfit = misfit

    def plan(self, name: str, module: nn.Module) -> LayerPlan | Keep:
        """Decide on one module."""
        if why_not := self.why_not(module):
            return Keep(why_not)
        names = weights_of(module)
        weights = {weight: self.spec_of(name, module.get_parameter(weight), channel_axis(module)) for weight in names}
        return LayerPlan(
            name=name,
            layer_type=type(module).__name__,
            scheme=self.name,
            weights=weights,
            input=None,
            quantized_bytes=sum(spec.nbytes for spec in weights.values()) + bytes_beside(module, weights),
        )

    def why_not(self, module: nn.Module) -> str:
        """Why a module is not quantized; empty when it is."""
        names = weights_of(module)
        if not names:
            return f"{self.name} does not quantize {type(module).__name__}"
        if why_not := next(filter(None, (why_not_a_weight(module, weight) for weight in names)), ""):
            return why_not
        if getattr(module, "max_norm", None) is not None:
            return "it renormalises its own weight when it runs (max_norm)"
        if method := replaced(module):
            return f"its {method} was replaced on the object itself, which may know the float weight"
        mixin = _mixin_for(module)
        if clash := name_clash(module, mixin, names):
            return f"it has a {clash!r} of its own, a name that quantized layers need"
        return why_no_subclass(module, mixin, names)

    def plan_tensor(self, name: str, weight: Tensor) -> WeightSpec | Keep:
        """Decide by name and shape: weights of two axes or more, their output channels along the first."""
        parameter = name.rpartition(".")[2]
        if weight.ndim < _AXES or weight.dtype not in FLOATS or not weight.numel():
            return Keep(f"it is {str(weight.dtype).removeprefix('torch.')}{list(weight.shape)}, no weight of a layer")
        if not _NAMES.fullmatch(parameter):
            return Keep("it is not called a weight")
        return self.spec_of(name, weight)

    def spec_of(self, name: str, weight: Tensor, axis: int = 0) -> WeightSpec:
        """How a weight is stored.

        Args:
            name: of the layer, for errors.
            weight: looked at for its shape and dtype alone.
            axis: of its channels.

        Raises:
            UnsupportedLayerError: when groups do not fit and ``misfit`` is ``"error"``.
        """
        per_channel = weight.numel() // weight.shape[axis]
        grains: dict[str, Granularity] = {"per-tensor": PerTensor(), "per-channel": PerChannel(axis)}
        if self.granularity == "per-group":
            grains["per-group"] = PerGroup(fitting_group(name, per_channel, self.group_size, self.misfit), axis)
        return WeightSpec(
            dtype=self.dtype,
            symmetric=self.symmetric,
            granularity=grains[self.granularity],
            shape=weight.shape,
            float_dtype=str(weight.dtype).removeprefix("torch."),
        )

    def convert(self, module: nn.Module, plan: LayerPlan, statistics: Mapping[str, Observer]) -> WeightOnly:
        """The quantized layer."""
        del statistics
        stored = {}
        for name, spec in plan.weights.items():
            weight = module.get_parameter(name)
            refuse_not_finite(plan.name, name, weight)
            stored[name] = encode(weight, spec)
            if not spec.is_scaled and not all_finite(stored[name][""]):
                raise UnsupportedLayerError(
                    f"layer {plan.name or '(model)'!r} has weights beyond {spec.dtype.name}: exclude it"
                )
        return _quantized_like(module, plan, stored)

    def restore(self, module: nn.Module, plan: LayerPlan) -> WeightOnly:
        """The quantized layer, empty."""
        if why_not := self.why_not(module):
            raise UnsupportedLayerError(why_not)
        if plan.input is not None:
            raise UnsupportedLayerError(f"{self.name} does not quantize its input, which the file has as {plan.input}")
        axes = {0, channel_axis(module)}  # 0 also where it was quantized without the model
        stored = empty_weights(module, plan, lambda spec: spec.dtype == self.dtype and spec.axis in axes)
        return _quantized_like(module, plan, stored)


def _quantized_like(module: nn.Module, plan: LayerPlan, stored: Mapping[str, Mapping[str, Tensor]]) -> WeightOnly:
    return as_weight_only(module, plan.weights, stored, _mixin_for(module))


def _mixin_for(module: nn.Module) -> type[WeightOnly]:
    """What runs a layer of this kind; one that does something else than torch's does it with its float weight."""
    if is_bias_computed(module):
        return WeightOnly
    kinds = (kind for kind in _BETTER if isinstance(module, kind) and not overridden(module, kind))
    return next((_BETTER[kind] for kind in kinds), WeightOnly)


class _IntWeightOnly(WeightOnlyScheme):
    """Integer weights of some bits; below 8 in groups, by default asymmetric, packed without a gap."""

    bits: ClassVar[int]

    def __init__(
        self,
        *,
        symmetric: bool = False,
        granularity: Grain = "per-group",
        group_size: int = 128,
        misfit: Misfit = "error",
    ) -> None:
        super().__init__(
            int_type(self.bits), symmetric=symmetric, granularity=granularity, group_size=group_size, misfit=misfit
        )


class Int8WeightOnly(_IntWeightOnly):
    """8-bit weights; by default symmetric, per channel."""

    name = "int8-weight-only"
    bits = 8

    def __init__(
        self,
        *,
        symmetric: bool = True,
        granularity: Grain = "per-channel",
        group_size: int = 128,
        misfit: Misfit = "error",
    ) -> None:
        super().__init__(symmetric=symmetric, granularity=granularity, group_size=group_size, misfit=misfit)


class Int7WeightOnly(_IntWeightOnly):
    """7-bit weights."""

    name = "int7-weight-only"
    bits = 7


class Int6WeightOnly(_IntWeightOnly):
    """6-bit weights."""

    name = "int6-weight-only"
    bits = 6


class Int5WeightOnly(_IntWeightOnly):
    """5-bit weights."""

    name = "int5-weight-only"
    bits = 5


class Int4WeightOnly(_IntWeightOnly):
    """4-bit weights, two a byte."""

    name = "int4-weight-only"
    bits = 4


class Int3WeightOnly(_IntWeightOnly):
    """3-bit weights."""

    name = "int3-weight-only"
    bits = 3


class Int2WeightOnly(_IntWeightOnly):
    """2-bit weights, four a byte."""

    name = "int2-weight-only"
    bits = 2


class Float8WeightOnly(WeightOnlyScheme):
    """Weights in float8 e4m3 (4 exponent and 3 mantissa bits), by default scaled per channel."""

    name = "float8-weight-only"

    def __init__(self, *, granularity: Grain = "per-channel", group_size: int = 128, misfit: Misfit = "error") -> None:
        super().__init__(FLOAT8_E4M3, granularity=granularity, group_size=group_size, misfit=misfit)


class Float16(WeightOnlyScheme):
    """Weights in float16; they are widened when the model runs."""

    name = "float16"

    def __init__(self) -> None:
        super().__init__(FLOAT16, granularity="per-tensor")


class BFloat16(WeightOnlyScheme):
    """Weights in bfloat16; they are widened when the model runs."""

    name = "bfloat16"

    def __init__(self) -> None:
        super().__init__(BFLOAT16, granularity="per-tensor")
