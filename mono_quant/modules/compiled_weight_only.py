"""Linear layers of which only the weight is quantized, inside ``torch.compile``: one operator each."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mono_quant.core.granularity import as_granularity
from mono_quant.core.qtypes import as_qtype
from mono_quant.core.tensor_spec import WeightSpec
from mono_quant.kernels.bfloat16 import BFloat16Kernel, Int4PackKernel, Int8PackKernel
from mono_quant.kernels.dequantize import DequantizeKernel
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.modules.compiled_engines import engine_of
from mono_quant.plugin_api.kernel import Kernel, WeightOnlyOp

__all__ = ["weight_only_linear"]

_KERNELS: dict[str, Kernel] = {
    "reference": ReferenceKernel(),
    "dequantize": DequantizeKernel(),
    "bfloat16-linear": BFloat16Kernel(),
    "int8pack": Int8PackKernel(),
    "int4pack": Int4PackKernel(),
}
"""By their names as plugins."""

torch.library.define(
    "mono_quant::weight_only_linear",
    "(Tensor x, Tensor codes, Tensor? scale, Tensor? zero_point, Tensor? bias, "
    "str dtype, str granularity, int[] shape, str[] kernels, str wanted) -> Tensor",
)
weight_only_linear = torch.ops.mono_quant.weight_only_linear.default
"""``x · weightᵀ + bias``, float32 ``(..., in) → (..., out)``; see `mono_quant.plugin_api.WeightOnlyOp`.

``codes``, ``scale`` and ``zero_point`` store the weight as ``dtype``, ``granularity`` and ``shape`` of a
`mono_quant.plugin_api.WeightSpec` say; without a ``zero_point`` it is symmetric.

``kernels`` are the names of those to choose from, of which plugins' are left out, and ``wanted`` is ``"auto"`` or one
of them: unlike those for quantized inputs, some round to bfloat16, and who asked for others gets others.
"""


@torch.library.impl("mono_quant::weight_only_linear", "CPU")
def _run(  # noqa: PLR0917 - an operator's arguments
    x: Tensor,
    codes: Tensor,
    scale: Tensor | None,
    zero_point: Tensor | None,
    bias: Tensor | None,
    dtype: str,
    granularity: str,
    shape: Sequence[int],
    kernels: Sequence[str],
    wanted: str,
) -> Tensor:
    if not x.numel():
        return functional.linear(x, x.new_zeros(tuple(shape)), None if bias is None else bias.float())
    others = (scale, zero_point, bias)

    def op() -> WeightOnlyOp:
        spec = WeightSpec(
            dtype=as_qtype(dtype),
            symmetric=zero_point is None,
            granularity=as_granularity(granularity),
            shape=tuple(shape),
        )
        tensors = {"": codes, "_scale": scale, "_zero_point": zero_point}
        stored = {suffix: tensor.detach() for suffix, tensor in tensors.items() if tensor is not None}
        return WeightOnlyOp(stored=stored, spec=spec, bias=None if bias is None else bias.detach().float())

    addresses = (None if t is None else t.data_ptr() for t in others)
    layer = (dtype, granularity, *shape, *kernels, wanted, *addresses)
    engine = engine_of(codes, layer, tuple((name, _KERNELS[name]) for name in kernels if name in _KERNELS), wanted)
    flat = x.reshape(-1, x.shape[-1])
    return engine(flat, others, op).reshape(*x.shape[:-1], shape[0])


@torch.library.register_fake("mono_quant::weight_only_linear")  # type: ignore[untyped-decorator]
def _shape(x: Tensor, *layer: Any) -> Tensor:  # noqa: ANN401 - the operator's other arguments
    shape = layer[6]
    return x.new_empty(functional.linear(x, x.new_empty(shape)).shape)
