"""One of the linear maps of a layer that has several, with a dynamic input: some rows of an int8 weight."""

from torch import Tensor
from torch.nn import functional

from mono_quant.core.affine import quantize
from mono_quant.core.tensor_spec import TensorSpec
from mono_quant.modules.base import as_float32, is_compiled, is_traced
from mono_quant.modules.compiled_linear import compiled_linear
from mono_quant.modules.dynamic import input_qparams, is_per_token
from mono_quant.modules.engine import Engine
from mono_quant.modules.linear_op import by_token, for_sums, linear_op, scaled

__all__ = ["project"]


def project(
    x: Tensor,
    stored: tuple[Tensor, Tensor, Tensor | None],
    *,
    rows: slice,
    bias_rows: slice,
    spec: TensorSpec,
    engine: Engine,
) -> Tensor:
    """``x · weight[rows]ᵀ + bias[bias_rows]``; ``(..., K) → (..., rows)``, dtype of ``x``.

    Args:
        x: float; quantized by its own range.
        stored: the whole weight and bias: int8 ``(out, K)``, its scale ``(out,)``, float ``(biases,)`` or None. The
            engine knows by them, not by the views of their rows, whether what it has packed is still right.
        rows: of the weight.
        bias_rows: as many of the bias.
        spec: of the input, dynamic.
        engine: runs these rows and no others.
    """
    bias = None if stored[2] is None else stored[2].detach()[bias_rows]
    if is_compiled() and x.device.type == "cpu":
        start, stop, _ = rows.indices(len(stored[0]))
        return compiled_linear(as_float32(x), stored[:2], bias, spec, (start, stop)).to(x.dtype)
    codes, scale = stored[0][rows], stored[1].detach()[rows]
    if is_traced():
        return _traceable(as_float32(x), codes, scale, bias, spec).to(x.dtype)
    if not x.numel():
        return x.new_zeros(*x.shape[:-1], len(codes))
    flat = as_float32(x.detach().reshape(-1, x.shape[-1]))

    def run(flat: Tensor) -> Tensor:
        return engine(flat, stored, lambda: linear_op(codes, scale, bias, spec))

    y = by_token(flat, bias, spec, run) if is_per_token(spec) else run(flat)
    return y.reshape(*x.shape[:-1], len(codes)).to(x.dtype)


def _traceable(x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None, spec: TensorSpec) -> Tensor:
    """The same arithmetic in plain float operations."""
    input_scale, zero_point = input_qparams(x, spec)
    given = quantize(x, input_scale, zero_point, spec.dtype)
    sums = functional.linear(for_sums(given) - zero_point, for_sums(codes))
    return scaled(sums, scale, input_scale, bias)
