"""Layers with quantized inputs inside ``torch.compile``: one operator each, in integers.

The compiler cannot look into the operator. It sees what makes the codes of an input as plain operations, and fuses them
with what comes before: a norm, a sum, an activation.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.core.affine import dequantize
from mono_quant.core.tensors import CHANNELS_LAST
from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.kernels.reference import FLOAT_CONVOLUTIONS, ReferenceKernel
from mono_quant.modules.compiled_engines import engine_of
from mono_quant.modules.dynamic import WHOLE_UNITS
from mono_quant.modules.steps import Steps
from mono_quant.plugin_api.kernel import FusedRun, OpKind, QuantizedOp

__all__ = ["int8_layer"]

_KERNELS = (("reference", ReferenceKernel()), ("fbgemm", FbgemmKernel()), ("onednn", OnednnKernel()))

torch.library.define(
    "mono_quant::int8_layer",
    "(Tensor x, Tensor weight, Tensor weight_scale, Tensor? bias, Tensor? input_scale, Tensor? input_zero_point, "
    "str kind, int[] stride, int[] padding, int[] dilation, int groups, int[]? rows=None) -> Tensor",
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


@torch.library.impl("mono_quant::int8_layer", "CPU")
def _run(  # noqa: PLR0917 - an operator's arguments
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    input_scale: Tensor | None,
    input_zero_point: Tensor | None,
    kind: str,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    rows: Sequence[int] | None = None,
) -> Tensor:
    geometry = (tuple(stride), tuple(padding), tuple(dilation), groups)
    if not x.numel():
        return _laid_out(x, _float_op(x, _part(weight, rows), kind, *geometry))
    qparams = WHOLE_UNITS if x.dtype == torch.uint8 else None
    if input_scale is not None and input_zero_point is not None:
        qparams = (float(input_scale), int(input_zero_point))
    others = (weight_scale, bias, input_scale, input_zero_point)

    def op() -> QuantizedOp:
        return QuantizedOp(
            kind=cast("OpKind", kind),
            weight=_part(weight.detach(), rows),
            weight_scale=_part(weight_scale.detach(), rows),
            bias=None if bias is None else _part(bias.detach(), rows).float(),
            input_scale=None if qparams is None else qparams[0],
            input_zero_point=None if qparams is None else qparams[1],
            stride=geometry[0],
            padding=geometry[1],
            dilation=geometry[2],
            groups=groups,
        )

    addresses = (None if t is None else t.data_ptr() for t in others)
    shape = x.shape
    if kind == "linear":
        x = x.reshape(-1, shape[-1])
    engine = engine_of(weight, (x.dtype, kind, *geometry, *(rows or ()), *addresses), _KERNELS)
    run = engine.packed(x.shape, others, op, lambda: x if qparams is None else dequantize(x, *qparams))
    if qparams is not None:
        run = (run if isinstance(run, FusedRun) else Steps(run, *qparams)).fused
    y = run(x)
    return _laid_out(x, y.reshape(*shape[:-1], -1) if kind == "linear" else y)


@torch.library.register_fake("mono_quant::int8_layer")  # type: ignore[untyped-decorator]
def _shape(x: Tensor, weight: Tensor, *layer: Any) -> Tensor:  # noqa: ANN401 - the operator's other arguments
    (kind, *geometry), rows = layer[4:9], layer[9] if len(layer) > 9 else None  # noqa: PLR2004 - the last has a default
    return _empty(x, _float_op(x, _part(weight, rows), kind, *geometry).shape)


def _part(tensor: Tensor, rows: Sequence[int] | None) -> Tensor:
    return tensor if rows is None else tensor[slice(*rows)]


def _float_op(x: Tensor, weight: Tensor, kind: str, *geometry: Any) -> Tensor:  # noqa: ANN401 - as in `Geometry`
    """The float layer's own function of the codes."""
    if kind == "linear":
        return functional.linear(x.float(), weight.float())
    return FLOAT_CONVOLUTIONS[kind](x.float(), weight.float(), None, *geometry)


def _laid_out(x: Tensor, given: Tensor) -> Tensor:
    """What a kernel gave, in the layout that the compiler was told of."""
    output = _empty(x, given.shape)
    return given if given.stride() == output.stride() else output.copy_(given)


def _empty(like: Tensor, shape: torch.Size) -> Tensor:
    layout = CHANNELS_LAST.get(len(shape), torch.contiguous_format)
    return torch.empty(shape, dtype=torch.float32, device=like.device, memory_format=layout)
