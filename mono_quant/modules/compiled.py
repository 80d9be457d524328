"""Quantized layers inside ``torch.compile``: one operator each, in integers.

The compiler cannot look into the operator. It sees what makes the codes of a static input as plain operations, and
fuses them with what comes before: a norm, a sum, an activation.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

from mono_quant.core.affine import dequantize
from mono_quant.core.tensors import CHANNELS_LAST, versions
from mono_quant.kernels.fbgemm import FbgemmKernel
from mono_quant.kernels.onednn import OnednnKernel
from mono_quant.kernels.reference import FLOAT_CONVOLUTIONS, ReferenceKernel
from mono_quant.modules.engine import Engine
from mono_quant.modules.steps import Steps
from mono_quant.plugin_api.kernel import FusedRun, OpKind, QuantizedOp

__all__ = ["int8_layer"]

_KERNELS = (("reference", ReferenceKernel()), ("fbgemm", FbgemmKernel()), ("onednn", OnednnKernel()))

_engines: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Codes of a weight → the layers that have it, each with what it was packed into. None holds the key itself."""

torch.library.define(
    "mono_quant::int8_layer",
    "(Tensor x, Tensor weight, Tensor weight_scale, Tensor? bias, Tensor? input_scale, Tensor? input_zero_point, "
    "str kind, int[] stride, int[] padding, int[] dilation, int groups) -> Tensor",
)
int8_layer = torch.ops.mono_quant.int8_layer.default
"""The float32 output of a layer; see `mono_quant.plugin_api.QuantizedOp`.

``x`` are the uint8 codes of its input, or the float32 input itself where each has its own range, and ``input_scale``
and ``input_zero_point`` are None. The output of ``"conv2d"`` and ``"conv3d"`` is in channels-last layout.
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
) -> Tensor:
    qparams = None if input_scale is None or input_zero_point is None else (float(input_scale), int(input_zero_point))
    others = (weight_scale, bias, input_scale, input_zero_point)

    def op() -> QuantizedOp:
        return QuantizedOp(
            kind=cast("OpKind", kind),
            weight=weight.detach(),
            weight_scale=weight_scale.detach(),
            bias=None if bias is None else bias.detach().float(),
            input_scale=None if qparams is None else qparams[0],
            input_zero_point=None if qparams is None else qparams[1],
            stride=tuple(stride),
            padding=tuple(padding),
            dilation=tuple(dilation),
            groups=groups,
        )

    layer = (kind, *stride, *padding, *dilation, groups, *(None if t is None else t.data_ptr() for t in others))
    engine = _engine(weight, layer)
    run = engine.packed(x.shape, others, op, lambda: x if qparams is None else dequantize(x, *qparams))
    if qparams is not None:
        run = (run if isinstance(run, FusedRun) else Steps(run, *qparams)).fused
    given = run(x)
    output = _empty(x, given.shape)
    return given if given.stride() == output.stride() else output.copy_(given)


@torch.library.register_fake("mono_quant::int8_layer")  # type: ignore[untyped-decorator]
def _shape(x: Tensor, weight: Tensor, *layer: Any) -> Tensor:  # noqa: ANN401 - the operator's other arguments
    kind, *geometry = layer[4:]
    if kind == "linear":
        return _empty(x, functional.linear(x.float(), weight.float()).shape)
    return _empty(x, FLOAT_CONVOLUTIONS[kind](x.float(), weight.float(), None, *geometry).shape)


def _engine(weight: Tensor, layer: tuple[object, ...]) -> Engine:
    """The one that packs this weight, as it is now, for this layer."""
    now = versions([weight])
    packed, engines = _engines.get(weight, (None, {}))  # type: ignore[no-untyped-call]
    if packed != now:
        engines = {}
        _engines[weight] = (now, engines)
    return engines.setdefault(layer, Engine(_KERNELS))  # type: ignore[no-any-return]


def _empty(like: Tensor, shape: torch.Size) -> Tensor:
    layout = CHANNELS_LAST.get(len(shape), torch.contiguous_format)
    return torch.empty(shape, dtype=torch.float32, device=like.device, memory_format=layout)
