"""The part of verification for kernels that take codes, activate, and give codes."""

import torch
from torch import Tensor

from mono_quant.core.affine import choose_qparams_of, quantize
from mono_quant.core.qtypes import UINT8
from mono_quant.plugin_api.activation import EXAMPLES
from mono_quant.plugin_api.kernel import FusedRun

__all__ = ["why_not_fused"]


def why_not_fused(run: FusedRun, x: Tensor, expected: Tensor, rounding: float) -> str:
    """What is wrong with the outputs that it fuses; empty when nothing is.

    Args:
        run: a small layer, packed.
        x: an input of it, float32.
        expected: the output of the reference, without an activation.
        rounding: what rounding explains before an activation, as a part of the largest output; it doubles with one.
    """
    codes, allowed = run.encode(x), 2 * rounding * float(expected.abs().max())
    for activation in (None, *(one for one in EXAMPLES if one.name in run.activations)):
        activated = expected if activation is None else activation(expected)
        given = run.fused(codes, activation)
        if given.dtype != torch.float32 or given.shape != expected.shape:
            return f"fused, it gave {given.dtype}{list(given.shape)}, not float32{list(expected.shape)}"
        if not float((given - activated).abs().max()) <= allowed:
            return f"fused with {activation}, it differs from the reference by more than rounding"
        qparams = choose_qparams_of(float(activated.min()), float(activated.max()), UINT8)
        given = run.fused(codes, activation, qparams)
        if given.dtype != torch.uint8 or given.shape != expected.shape:
            return f"for codes, it gave {given.dtype}{list(given.shape)}, not uint8{list(expected.shape)}"
        if int((given.int() - quantize(activated, *qparams, UINT8).int()).abs().max()) > 1:
            return f"fused with {activation}, it gives other codes than the reference's"
    return ""
