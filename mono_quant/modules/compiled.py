"""Layers with quantized inputs inside ``torch.compile``: one operator each, in integers.

The compiler cannot look into the operator. It sees what makes the codes of an input as plain operations, and fuses them
with what comes before: a norm, a sum, an activation. Where nothing but an activation comes before, the layer before
gives the codes itself, see `mono_quant.modules.compiled_codes`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.core.affine import dequantize, quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.core.tensors import CHANNELS_LAST
from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.kernels.reference import FLOAT_CONVOLUTIONS, ReferenceKernel
from mono_quant.modules.compiled_engines import engine_of, ready_for
from mono_quant.modules.dynamic import WHOLE_UNITS
from mono_quant.modules.steps import Steps
from mono_quant.plugin_api.activation import Activation
from mono_quant.plugin_api.kernel import FusedRun, OpKind, QuantizedOp

__all__ = ["deferred_layer", "int8_layer", "layer_codes"]

_KERNELS = (("reference", ReferenceKernel()), ("fbgemm", FbgemmKernel()), ("onednn", OnednnKernel()))

_TENSORS = "Tensor x, Tensor weight, Tensor weight_scale, Tensor? bias, Tensor? input_scale, Tensor? input_zero_point"
_GEOMETRY = "str kind, int[] stride, int[] padding, int[] dilation, int groups"
_OUTPUT = "Tensor output_scale, Tensor output_zero_point"
torch.library.define("mono_quant::int8_layer", f"({_TENSORS}, {_GEOMETRY}, int[]? rows=None) -> Tensor")
torch.library.define("mono_quant::int8_layer.deferred", f"({_TENSORS}, {_GEOMETRY}) -> Tensor")
torch.library.define(
    "mono_quant::int8_layer.codes",
    f"({_TENSORS}, {_OUTPUT}, {_GEOMETRY}, str activation, float[] arguments) -> Tensor",
)
int8_layer = torch.ops.mono_quant.int8_layer.default
"""The float32 output of a layer; see `mono_quant.plugin_api.QuantizedOp`.

=================================================  =================================
``x``                                              ``input_scale, input_zero_point``
=================================================  =================================
uint8 codes of the input                           theirs
uint8 codes of rows in units of their own scales,  None: they are `WHOLE_UNITS`
so that the output is in these units too
float32 input, quantized here by its own range     None
=================================================  =================================

``rows`` is ``[start, stop]``: which of the weight, its scale and the bias to compute with; None for all. A part of a
weight would be another tensor at each call, and what was packed of it could not be found again.

Of ``"linear"``, ``x`` is ``(..., K)``. The output of ``"conv2d"`` and ``"conv3d"`` is in channels-last layout.
"""
deferred_layer = torch.ops.mono_quant.int8_layer.deferred
"""The same for codes with one scale, of a layer whose output is expected to be asked for as codes only."""
layer_codes = torch.ops.mono_quant.int8_layer.codes
"""The uint8 codes of such a layer's output, of an ``activation`` of it, or ``""``; see `Activation`."""


class _Layer(NamedTuple):
    """What the operators are told of a layer."""

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    input_scale: Tensor | None
    input_zero_point: Tensor | None
    kind: str
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    rows: Sequence[int] | None = None


def _run(x: Tensor, *told: Any) -> Tensor:  # noqa: ANN401 - the operator's other arguments
    return ready_for(x, told[:5], told[5:], lambda: _floats(x, _Layer(*told)))(x)


def _run_to_codes(x: Tensor, *told: Any) -> Tensor:  # noqa: ANN401
    return ready_for(x, told[:7], told[7:], lambda: _codes(x, *_apart(told)))(x)


def _shape(x: Tensor, *told: Any) -> Tensor:  # noqa: ANN401
    return _empty(x, _float_op(x, _Layer(*told)).shape, torch.float32)


def _shape_of_codes(x: Tensor, *told: Any) -> Tensor:  # noqa: ANN401
    layer, _, _ = _apart(told)
    return _empty(x, _float_op(x, layer).shape, torch.uint8)


for _name, _impl, _fake in (
    ("mono_quant::int8_layer", _run, _shape),
    ("mono_quant::int8_layer.deferred", _run, _shape),
    ("mono_quant::int8_layer.codes", _run_to_codes, _shape_of_codes),
):
    torch.library.impl(_name, "CPU", _impl)
    torch.library.register_fake(_name, _fake)


def _apart(told: tuple[Any, ...]) -> tuple[_Layer, tuple[Tensor, Tensor], Activation | None]:
    """A layer, what its output's codes are made with, and what is applied before."""
    *geometry, activation, arguments = told[7:]
    return _Layer(*told[:5], *geometry), told[5:7], Activation(activation, tuple(arguments)) if activation else None


def _floats(x: Tensor, layer: _Layer) -> Callable[[Tensor], Tensor]:
    """What gives the floats of inputs like ``x``. It outlives the call, so it holds no weight by its own object."""
    if not x.numel():
        layer = layer._replace(weight=layer.weight.detach())
        return _laid_out(lambda x: _float_op(x, layer), x, layer)
    qparams, run = _qparams(x, layer), _packed(x, layer)
    if qparams is not None:
        run = (run if isinstance(run, FusedRun) else Steps(run, *qparams)).fused
    if layer.kind == "linear":
        return lambda x: run(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
    return _laid_out(run, x, layer)


def _codes(
    x: Tensor, layer: _Layer, qparams: tuple[Tensor, Tensor], activation: Activation | None
) -> Callable[[Tensor], Tensor]:
    """What gives the codes of an output, likewise."""
    output = float(qparams[0]), int(qparams[1])
    run = _packed(x, layer) if x.numel() else None
    if isinstance(run, FusedRun) and (activation is None or activation.name in run.activations):
        return _laid_out(lambda x: run.fused(x, activation, output), x, layer)
    floats = _floats(x, layer)
    activated = floats if activation is None else lambda x: activation(floats(x))
    return lambda x: quantize(activated(x), *output, UINT8)


def _packed(x: Tensor, layer: _Layer) -> Callable[[Tensor], Tensor]:
    """The kernel for inputs like ``x``."""
    weight, others = layer.weight, layer[1:5]
    geometry = (tuple(layer.stride), tuple(layer.padding), tuple(layer.dilation), layer.groups)
    qparams = _qparams(x, layer)

    def op() -> QuantizedOp:
        return QuantizedOp(
            kind=cast("OpKind", layer.kind),
            weight=_part(weight.detach(), layer.rows),
            weight_scale=_part(layer.weight_scale.detach(), layer.rows),
            bias=None if layer.bias is None else _part(layer.bias.detach(), layer.rows).float(),
            input_scale=None if qparams is None else qparams[0],
            input_zero_point=None if qparams is None else qparams[1],
            stride=geometry[0],
            padding=geometry[1],
            dilation=geometry[2],
            groups=layer.groups,
        )

    x = x.reshape(-1, x.shape[-1]) if layer.kind == "linear" else x
    addresses = (None if t is None else t.data_ptr() for t in others)
    engine = engine_of(weight, (x.dtype, layer.kind, *geometry, *(layer.rows or ()), *addresses), _KERNELS)
    return engine.packed(x.shape, others, op, lambda: x if qparams is None else dequantize(x, *qparams))


def _qparams(x: Tensor, layer: _Layer) -> tuple[float, int] | None:
    """Scale and zero point of the codes that ``x`` holds; None where it holds floats."""
    if layer.input_scale is not None and layer.input_zero_point is not None:
        return float(layer.input_scale), int(layer.input_zero_point)
    return WHOLE_UNITS if x.dtype == torch.uint8 else None


def _part(tensor: Tensor, rows: Sequence[int] | None) -> Tensor:
    return tensor if rows is None else tensor[slice(*rows)]


def _float_op(x: Tensor, layer: _Layer) -> Tensor:
    """The float layer's own function of the codes."""
    weight = _part(layer.weight, layer.rows).float()
    if layer.kind == "linear":
        return functional.linear(x.float(), weight)
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return FLOAT_CONVOLUTIONS[layer.kind](x.float(), weight, None, *geometry)


def _laid_out(run: Callable[[Tensor], Tensor], x: Tensor, layer: _Layer) -> Callable[[Tensor], Tensor]:
    """The same for inputs like ``x``, in the layout that the compiler was told of."""
    on_meta = _float_op(x.to("meta"), layer._replace(weight=layer.weight.to("meta")))
    shape, strides = on_meta.shape, _empty(on_meta, on_meta.shape, torch.float32).stride()

    def laid_out(x: Tensor) -> Tensor:
        y = run(x)
        return y if y.stride() == strides else torch.empty_strided(shape, strides, dtype=y.dtype).copy_(y)

    return laid_out


def _empty(like: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    layout = CHANNELS_LAST.get(len(shape), torch.contiguous_format)
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=layout)
