"""Linear layers inside ``torch.compile`` whose inputs bring their own ranges, one for each row or one for all."""

from torch import Tensor

from mono_quant.core.affine import codes_of
from mono_quant.core.qtypes import UINT8
from mono_quant.core.tensor_spec import TensorSpec
from mono_quant.modules.compiled import int8_layer
from mono_quant.modules.dynamic import WHOLE_UNITS, is_per_token
from mono_quant.modules.linear_op import by_token

__all__ = ["compiled_linear"]


def compiled_linear(
    x: Tensor, stored: tuple[Tensor, Tensor], bias: Tensor | None, spec: TensorSpec, rows: tuple[int, int] | None = None
) -> Tensor:
    """``x · weight[rows]ᵀ + bias`` by the compiler's operator; float32 ``(..., K) → (..., rows)``.

    Args:
        x: float32.
        stored: the whole weight: int8 ``(out, K)``, and its scale ``(out,)``.
        bias: float ``(rows,)`` or None, added in operations that the compiler fuses with what comes after.
        spec: of the input, dynamic.
        rows: the first one of the weight and the one after the last; None for all.
    """

    def run(given: Tensor) -> Tensor:
        y: Tensor = int8_layer(given, *stored, None, None, None, "linear", [], [], [], 1, rows)
        return y

    flat = x.reshape(-1, x.shape[-1])
    if is_per_token(spec):
        # Not by `quantize`, whose way through bits is fast without a compiler.
        y = by_token(flat, bias, spec, lambda units: run(codes_of(units, *WHOLE_UNITS, UINT8).to(UINT8.storage)))
    else:
        y = run(flat.detach())
        y = y if bias is None else y + bias.float()
    return y.reshape(*x.shape[:-1], y.shape[-1])
