"""How far a fused run may be from its steps one by one."""

import attrs
import torch
from torch import Tensor

from mono_quant.core.affine import choose_qparams_of
from mono_quant.core.qtypes import UINT8
from mono_quant.kernels.reference import ReferenceKernel
from mono_quant.plugin_api.activation import Activation
from mono_quant.plugin_api.kernel import FusedRun, QuantizedOp
from mono_quant.testing.distance import ROUNDING, floats_of

__all__ = ["fused_problem"]

_ROUNDINGS = 16
"""Seven before the activation, whose slope is at most 1.13, and eight of the activation itself."""


def fused_problem(run: FusedRun, op: QuantizedOp, codes: Tensor, activation: Activation | None) -> str:
    """What is wrong with the output for these input codes, as floats and as codes; empty when nothing is.

    Args:
        run: the layer, packed.
        op: its arithmetic, with a static input scale.
        codes: uint8, of its input.
        activation: one of its own, or None.
    """
    exact, unit = _exact(op, codes, activation)
    bound = _ROUNDINGS * ROUNDING * unit
    given = run.fused(codes, activation)
    if given.dtype is not torch.float32 or given.shape != exact.shape:
        return f"it gave {given.dtype}{list(given.shape)}, not float32{list(exact.shape)}"
    if not bool(((given.double() - exact).abs() <= bound).all()):
        return "its floats differ by more than rounding explains"
    for low, high in _ranges(exact):
        scale, zero_point = choose_qparams_of(low, high, UINT8)
        given = run.fused(codes, activation, (scale, zero_point))
        if given.dtype is not torch.uint8 or given.shape != exact.shape:
            return f"it gave {given.dtype}{list(given.shape)}, not uint8{list(exact.shape)}"
        steps = (exact / scale + zero_point).clamp(0, 255)
        # To the nearest code, but for the rounding of the float and of the quotient.
        allowed = 0.5 + bound / scale + 4 * ROUNDING * 256
        if not bool(((given.double() - steps).abs() <= allowed).all()):
            return f"its codes at scale {scale:.3g} and zero point {zero_point} are not the nearest ones"
    return ""


def _exact(op: QuantizedOp, codes: Tensor, activation: Activation | None) -> tuple[Tensor, Tensor]:
    """The output in float64, and the size of the numbers that were rounded on the way, element by element."""
    product = ReferenceKernel().pack(attrs.evolve(op, bias=None))(floats_of(codes.double(), op)).double()
    bias = torch.zeros(()) if op.bias is None else op.bias.double().reshape(-1, *[1] * len(op.stride))
    exact = product + bias
    return exact if activation is None else activation(exact), product.abs() + bias.abs()


def _ranges(exact: Tensor) -> list[tuple[float, float]]:
    """The whole range, one that cuts most of it off, and one of positive numbers only."""
    low, high = float(exact.min()), float(exact.max())
    return [(low, high), (low / 4, high / 8), (0.0, max(abs(low), abs(high), 1e-3))]
