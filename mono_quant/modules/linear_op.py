"""The arithmetic of linear layers with quantized inputs, as kernels are asked for it."""

from collections.abc import Callable

import torch
from torch import Tensor

from mono_quant.core.tensor_spec import TensorSpec
from mono_quant.modules.dynamic import WHOLE_UNITS, input_qparams, is_per_token
from mono_quant.plugin_api.kernel import QuantizedOp

__all__ = ["by_token", "for_sums", "linear_op", "scaled"]


def linear_op(
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    spec: TensorSpec,
    qparams: tuple[Tensor | None, Tensor | None] = (None, None),
) -> QuantizedOp:
    """The op of a linear layer; per token that of `by_token`, which has one static scale, 1, and no bias.

    Args:
        weight: int8 ``(out, K)``.
        weight_scale: float32 ``(out,)``.
        bias: float ``(out,)`` or None.
        spec: how the input is quantized.
        qparams: scale and zero point of a static input.
    """
    scale, zero_point = qparams
    if is_per_token(spec):
        scale, zero_point, bias = *map(torch.tensor, WHOLE_UNITS), None
    return QuantizedOp(
        kind="linear",
        weight=weight,
        weight_scale=weight_scale,
        bias=None if bias is None else bias.float(),
        input_scale=None if scale is None else float(scale),
        input_zero_point=None if zero_point is None else int(zero_point),
    )


def by_token(x: Tensor, bias: Tensor | None, spec: TensorSpec, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Run an op of `linear_op` on each row in units of its own scale.

    Args:
        x: float32 ``(N, K)``, not empty.
        bias: added at the end.
        spec: of the input.
        run: the op.
    """
    scale, _ = input_qparams(x, spec)
    y = run(x / scale) * scale
    return y if bias is None else y + bias.float()


def for_sums(codes: Tensor) -> Tensor:
    """Codes in a float dtype whose products can be summed: not float32 under autocast, which makes float16 of it."""
    return codes.double() if torch.is_autocast_enabled(codes.device.type) else codes.float()


def scaled(
    sums: Tensor, weight_scale: Tensor, scale: Tensor, bias: Tensor | None, per_channel: tuple[int, ...] = (-1,)
) -> Tensor:
    """The output of a layer from its sums of products of codes: in the order in which the reference kernel rounds.

    Args:
        sums: float, whole numbers.
        weight_scale: float32 ``(out,)``.
        scale: of the input, ``()``, or ``(..., 1)`` where each row has its own.
        bias: float ``(out,)`` or None.
        per_channel: shape in which what channels have broadcasts against the sums.
    """
    sums = sums.float()
    if scale.ndim:
        y = sums * weight_scale.reshape(per_channel) * scale
    else:
        y = sums * (weight_scale * scale).reshape(per_channel)
    return y if bias is None else y + bias.float().reshape(per_channel)
